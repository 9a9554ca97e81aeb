"""One row of a dataset: the columns, and what must hold of rows whose images are not decoded yet."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_gland.errors import DatasetError

FEATURES = datasets.Features({
    "image": datasets.Image(mode="RGB"),
    "sparse_mask": datasets.Image(mode="L"),
    "mask": datasets.Image(mode="L"),
    "instances": datasets.Image(),
    "image_id": datasets.Value("string"),
    "patient_id": datasets.Value("string"),
    "source": datasets.Value("string"),
    "grade": datasets.Value("string"),
    "mpp": datasets.Value("float32"),
    "labelled_fraction": datasets.Value("float32"),
    "annotated_glands": datasets.Value("int32"),
    "total_glands": datasets.Value("int32"),
})
PIXEL_COLUMNS = tuple(name for name, feature in FEATURES.items() if isinstance(feature, datasets.Image))


def check_images(rows: pa.Table, where: str, columns: Sequence[str] = PIXEL_COLUMNS) -> None:
    """Raise DatasetError naming the first row without an image, or with the name of a file in place of one.

    `datasets` would open whatever path a row names, and fetch it from http:// or inside zip://. `columns` of `rows` are
    checked; only `image` may not be null.
    """
    for column in columns:
        if not pa.types.is_struct(rows.schema.field(column).type):
            raise DatasetError(f"{where}: column {column} holds {rows.schema.field(column).type}, not images; make the "
                               "dataset with build_dataset")
        start = 0
        for cells in rows[column].chunks:
            empty = pc.is_null(pc.struct_field(cells, "bytes")).to_numpy(zero_copy_only=False)
            there = cells.is_valid().to_numpy(zero_copy_only=False)
            if column == "image" and not there.all():
                image_id = rows["image_id"][start + int(np.argmin(there))]
                raise DatasetError(f"{where}: {image_id} has no image; remove the row")
            if (empty & there).any():
                index = start + int(np.argmax(empty & there))
                raise DatasetError(f"{where}: {rows['image_id'][index]}: {column} names a file "
                                   f"({rows[column][index]['path']}) and does not hold it, and files that a dataset names "
                                   "are not opened. If you trust it, load it with `datasets` and publish it again with "
                                   "push_to_hub, which puts the images themselves into the rows")
            start += len(cells)


def decoded(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The rows, decoded one by one; raises DatasetError that says which holds a damaged image."""
    place, before = iter(rows), "the first row"
    while True:
        try:
            row = next(place)
        except StopIteration:
            return
        except Exception as error:  # a decoder raises whatever a damaged file leads it into
            raise DatasetError(f"{before}: an image cannot be decoded ({error}); build the dataset again") from error
        yield row
        before = f"the row after {row['image_id']}"
