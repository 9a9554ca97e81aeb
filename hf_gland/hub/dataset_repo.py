"""A dataset repository: one folder of Parquet files per configuration, as `datasets` lays them out when it pushes.

    README.md LICENSE.md? provenance.json
    CONFIG/<split>-00000-of-0000N.parquet CONFIG/provenance.json
    preview/train-00000-of-00001.parquet media/annotations.png

`Dataset.push_to_hub` makes a commit per configuration and encodes the rows anew; here the built files go up as they are,
all in one commit. The preview shows annotations in colours, as class ids 0 and 1 look alike in the Hub's viewer.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hf_gland.data.card import HUB_LICENCES
from hf_gland.data.contact_sheet import contact_sheet, overlay
from hf_gland.data.join import MASK_FEATURES, MASKS_ONLY, image_sha256
from hf_gland.data.schema import FEATURES
from hf_gland.data.sources import all_sources, source_of
from hf_gland.data.sources.synthetic.images import iter_synthetic
from hf_gland.data.sparsify import SparsifyConfig, annotation_rng, sparsify
from hf_gland.hub.dataset_card import dataset_card
from hf_gland.hub.dataset_source import Configuration, check_rows
from hf_gland.hub.errors import HubError
from hf_gland.hub.licences import may_share
from hf_gland.hub.metadata import check_card
from hf_gland.hub.staging import place
from hf_gland.markdown import escaped

PICTURE = "media/annotations.png"
PICTURE_IMAGES = 2
PREVIEW_IMAGES = 6
PREVIEW_FEATURES = datasets.Features({
    "configuration": datasets.Value("string"), "image_id": datasets.Value("string"),
    "annotation": datasets.Image(mode="RGB"), "labelled_fraction": datasets.Value("float32")})
SYNTHETIC_SEED, SYNTHETIC_SIZE = 1, (240, 320)  # images of no published dataset; height, width in px


def stage_dataset(configurations: Sequence[Configuration], out: Path, repo: str, *, templates: Path,
                  masks_only: bool = False, have_the_right: bool = False) -> str:
    """Write the repository `repo` into the empty folder `out`; returns its card, which has been checked.

    Images whose licence does not let anyone publish them are refused unless `masks_only`, or `have_the_right` to.
    Raises HubError or DatasetError before anything that looks whole is there.
    """
    licence, title = configurations[0].provenance["licence"], configurations[0].provenance["source"]
    source = source_of(title)
    joinable, shareable = source is not None and source.read_again is not None, may_share(title, licence)
    if masks_only and not joinable:
        able = " and ".join(s.title for s in all_sources() if s.read_again is not None)
        raise HubError(f"{title}: --masks-only is for datasets that can be joined with an official archive again, and only "
                       f"{able} can")
    if not masks_only and not shareable and not have_the_right:
        alone = ", or publish the annotations alone with --masks-only" if joinable else ""
        raise HubError(f"{configurations[0].folder}: the licence of these images ({licence}) does not let just anyone "
                       f"publish them. If you hold the rights, say so with --i-have-the-right{alone}")
    for configuration in configurations:
        check_rows(configuration)
    features, sizes = {}, {}
    for configuration in configurations:
        folder = out / configuration.prefix
        folder.mkdir()
        if masks_only:
            _write_masks(configuration, folder)
        else:
            for split in configuration.provenance["splits"]:
                for shard in configuration.shards(split):
                    place(shard, folder / shard.name)
        provenance = configuration.provenance | {"configuration": configuration.name}
        if masks_only:
            provenance["form"] = MASKS_ONLY
        for path in {"provenance.json", configuration.provenance_path}:
            if not (out / path).exists():  # the first configuration's stands at the root: it is the default
                (out / path).write_text(json.dumps(provenance, indent=2, ensure_ascii=False) + "\n", "utf-8")
        features[configuration.name] = MASK_FEATURES if masks_only else FEATURES
        sizes[configuration.name] = {s: _sizes(folder, s) for s in configuration.provenance["splits"]}
    preview = _preview(configurations, masks_only)
    if preview.num_rows:
        (out / "preview").mkdir()
        pq.write_table(preview, out / "preview" / "train-00000-of-00001.parquet")
        features["preview"], sizes["preview"] = PREVIEW_FEATURES, {"train": _sizes(out / "preview", "train")}
    if licence not in HUB_LICENCES:
        (out / "LICENSE.md").write_text(f"# Licence of the data\n\n{escaped(licence)}\n", "utf-8")
    caption = _draw_picture(configurations, out / PICTURE, synthetic=not shareable)
    card = dataset_card(configurations, repo, features=features, sizes=sizes, picture=PICTURE, picture_caption=caption,
                        joined=masks_only, templates=templates)
    (out / "README.md").write_text(card, "utf-8")
    check_card(card, "dataset", out)
    return card


def _write_masks(configuration: Configuration, folder: Path) -> None:
    for split in configuration.provenance["splits"]:
        rows = []
        for stored in configuration.stored_rows(split):
            row = FEATURES.decode_example(dict(stored))
            kept = {name: stored[name] for name in MASK_FEATURES if name in stored}
            rows.append(kept | {"image_sha256": image_sha256(np.asarray(row["image"]))}
                        | ({"sparse_mask": None} if _is_whole(row) else {}))
        table = pa.Table.from_pylist(rows, schema=MASK_FEATURES.arrow_schema)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")


def _is_whole(row: Mapping[str, Any]) -> bool:
    """Whether the supervision of a decoded row is the dense mask itself, which the archive's licence covers."""
    return row["mask"] is not None and np.array_equal(np.asarray(row["mask"]), np.asarray(row["sparse_mask"]))


def _sizes(folder: Path, split: str) -> dict[str, int]:
    shards = sorted(folder.glob(f"{split}-[0-9]*.parquet"))
    metadata = [pq.read_metadata(shard) for shard in shards]
    groups = [m.row_group(i) for m in metadata for i in range(m.num_row_groups)]
    return {"rows": sum(m.num_rows for m in metadata), "bytes": sum(g.total_byte_size for g in groups),
            "file_bytes": sum(shard.stat().st_size for shard in shards)}


def _first_rows(configuration: Configuration, limit: int) -> Iterator[dict[str, Any]]:
    split = next(iter(configuration.provenance["splits"]))
    for _, row in zip(range(limit), configuration.rows(split), strict=False):
        yield row


def _preview(configurations: Sequence[Configuration], masks_only: bool) -> pa.Table:
    """Annotations of the first images in colours: on the images, or, for `masks_only`, on white, if they are sparse."""
    rows = []
    for configuration in configurations:
        for row in _first_rows(configuration, PREVIEW_IMAGES):
            image, mask = np.asarray(row["image"]), np.asarray(row["sparse_mask"])
            if masks_only and _is_whole(row):
                continue
            buffer = io.BytesIO()
            Image.fromarray(overlay(np.full_like(image, 255) if masks_only else image, mask)).save(buffer, "PNG")
            rows.append({"configuration": configuration.name, "image_id": row["image_id"],
                         "annotation": {"bytes": buffer.getvalue(), "path": None},
                         "labelled_fraction": row["labelled_fraction"]})
    return pa.Table.from_pylist(rows, schema=PREVIEW_FEATURES.arrow_schema)


def _draw_picture(configurations: Sequence[Configuration], path: Path, *, synthetic: bool) -> str:
    """Draw the same images in every configuration and return the caption; `synthetic`: images that anyone may show."""
    path.parent.mkdir()
    if synthetic:
        # Masks drawn by hand cannot be drawn again on other images: the default style stands in for them.
        titles = {c.name: (_config(c.provenance["sparsify"]), c.provenance["seed"]) for c in configurations
                  if c.provenance["sparsify"]["style"] != "as-is"} or {"an example": (SparsifyConfig(), 0)}
        cells = []
        for sample in iter_synthetic("train", images=PICTURE_IMAGES, seed=SYNTHETIC_SEED, size_px=SYNTHETIC_SIZE):
            assert sample.mask is not None
            cells.append((sample.image_id, sample.image, [
                sparsify(sample.mask, sample.instances, config, annotation_rng(seed, sample.image_id)).mask
                for config, seed in titles.values()]))
        contact_sheet(cells, list(titles)).save(path)
        caption = ("Drawn on **synthetic** images with the same settings: the licence of the real ones does not let us show "
                   "them. ")
    else:
        found = {c.name: {row["image_id"]: row for row in _first_rows(c, PICTURE_IMAGES)} for c in configurations}
        first = found[configurations[0].name]
        alike = {name: rows for name, rows in found.items() if rows.keys() == first.keys()}
        contact_sheet([(i, np.asarray(row["image"]), [np.asarray(rows[i]["sparse_mask"]) for rows in alike.values()])
                       for i, row in first.items()], list(alike)).save(path)
        caption = ""
    return caption + "Labelled pixels are tinted in their class's colour (black: stroma), unlabelled ones faded."


def _config(settings: Mapping[str, Any]) -> SparsifyConfig:
    known = {f.name for f in fields(SparsifyConfig)}
    return SparsifyConfig(**{key: value for key, value in settings.items() if key in known})
