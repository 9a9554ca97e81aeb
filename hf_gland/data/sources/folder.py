"""Any folder of images and masks.

    root/images/a.png    root/masks/a.png (or a_mask.png)    [root/instances/a.png]    [root/metadata.csv]
    root/a.png           root/a_mask.png                     [root/a_instances.png]    [root/metadata.csv]
    root/train/images/…  root/test/images/…                  one folder per split, each like the first

PNG, JPEG, TIFF or BMP, paired by stem. The split of an image is metadata.csv's, else its folder's, else `train`.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hf_gland.data.schema import Sample
from hf_gland.data.sources.metadata import ImageMetadata, read_metadata
from hf_gland.data.sparsify import SparseAnnotation, as_drawn
from hf_gland.errors import DatasetError, ImageError
from hf_gland.imaging.find import natural_key
from hf_gland.imaging.label_maps import map_mask, read_labels
from hf_gland.imaging.opening import SUFFIXES
from hf_gland.imaging.pictures import read_picture
from hf_gland.labels import IGNORE_INDEX, MaskError, check_mask

METADATA_FILE = "metadata.csv"


@dataclass(frozen=True)
class FolderOptions:
    """How to read a folder.

    num_classes     background included.
    mask_values     the masks' numbers → class (or 255); None: the numbers are the classes.
    as_is           the masks are sparse already: they become the supervision, and no dense truth is known.
    sparse_masks    a folder of sparse masks that are the supervision, `masks/` being the dense truth beside them.
    allow_missing_masks   images without a mask are kept, wholly unlabelled, instead of being an error.
    mpp             µm per pixel of images for which metadata.csv gives none; None: unknown.
    patient_pattern a regular expression with one group, searched in the image id, for images to which metadata.csv
                    gives no patient.
    source          the name of the data, kept with each row.
    """

    num_classes: int = 2
    mask_values: Mapping[int, int] | None = None
    as_is: bool = False
    sparse_masks: Path | None = None
    allow_missing_masks: bool = False
    mpp: float | None = None
    patient_pattern: str = ""
    source: str = "folder"

    def __post_init__(self) -> None:
        if self.as_is and self.sparse_masks is not None:
            raise ValueError("either the masks are sparse as they are, or a folder of sparse masks is given, not both")
        try:
            groups = re.compile(self.patient_pattern).groups
        except re.error as error:
            raise ValueError(f"patient pattern '{self.patient_pattern}' is not a regular expression ({error})") from error
        if self.patient_pattern and groups != 1:
            raise ValueError(f"patient pattern '{self.patient_pattern}' must hold exactly one (group)")
        bad = [c for c in (self.mask_values or {}).values() if c != IGNORE_INDEX and not 0 <= c < self.num_classes]
        if bad:
            raise ValueError(f"mask values are mapped to {bad[0]}, which is neither a class (0 to "
                             f"{self.num_classes - 1}) nor {IGNORE_INDEX} (unlabelled); name more classes?")


@dataclass(frozen=True)
class FolderItem:
    """One image and the files that belong to it."""

    image_id: str
    image: Path
    mask: Path | None = None
    instances: Path | None = None
    sparse: Path | None = None
    metadata: ImageMetadata = field(default_factory=ImageMetadata)


def scan_folder(root: str | Path, options: FolderOptions = FolderOptions()) -> dict[str, list[FolderItem]]:
    """The images of each split, in natural order (2 before 10), with nothing read yet but metadata.csv.

    Raises DatasetError naming what is missing, doubled or empty.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    if (root / "images").is_dir() or _pictures(root):
        items = [("", item) for item in _scan_one(root, "", options)]
    else:
        items = [(part.name, item) for part in sorted(root.iterdir()) if (part / "images").is_dir()
                 for item in _scan_one(part, f"{part.name}_", options)]
    if not items:
        raise DatasetError(f"{root}: holds no images ({', '.join(SUFFIXES)}); expected images/ and masks/, or name.png "
                           "beside name_mask.png")
    table = read_metadata(root / METADATA_FILE) if (root / METADATA_FILE).is_file() else None
    splits: dict[str, list[FolderItem]] = {}
    for folder_split, item in items:
        known = _lookup(root, table, item, options)
        split = known.split or folder_split or "train"
        splits.setdefault(split, []).append(
            FolderItem(item.image_id, item.image, item.mask, item.instances, item.sparse, known))
    if table is not None:
        named = {key for _, item in items for key in (item.image_id, f"{item.image_id}{item.image.suffix}")}
        if strays := [name for name in table if name not in named]:
            raise DatasetError(f"{root / METADATA_FILE}: image_id '{strays[0]}' (and {len(strays) - 1} more) is no image "
                               "of the folder; correct or remove the line")
    return splits


def iter_folder(root: str | Path, split: str, options: FolderOptions = FolderOptions()) -> Iterator[Sample]:
    """The samples of one split; with `as_is` without dense masks. Raises DatasetError / MaskError naming the file."""
    splits = scan_folder(root, options)
    if split not in splits:
        raise DatasetError(f"{root}: has no split '{split}'; it has {', '.join(sorted(splits))}")
    return (sample for sample, _ in read_items(splits[split], options))


def read_items(items: Sequence[FolderItem], options: FolderOptions,
               ) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
    """Each item's sample, and its given sparse annotation (None unless `as_is` or `sparse_masks`).

    Ends with an error if the masks mark unlabelled pixels (255) but not one gland: then 255 was meant as gland.
    """
    glands = unlabelled = False
    for item in items:
        image = _image(item)
        mask = _mask(item.mask, image, options)
        sparse = mask if options.as_is else _mask(item.sparse, image, options)
        if mask is not None:
            unlabelled |= bool((mask == IGNORE_INDEX).any())
            glands |= bool(((mask > 0) & (mask != IGNORE_INDEX)).any())
        sample = Sample(image, None if options.as_is else mask, _instances(item.instances, image), item.image_id,
                        item.metadata.patient_id, options.source, item.metadata.grade, item.metadata.mpp)
        given = as_drawn(sparse, sample.mask, sample.instances) if sparse is not None else None
        if given is None and (options.as_is or options.sparse_masks is not None):
            given = as_drawn(np.full(image.shape[:2], IGNORE_INDEX, np.uint8), sample.mask, sample.instances)
        yield sample, given
    if unlabelled and not glands and options.mask_values is None:
        raise MaskError(f"{items[0].mask} and the other masks of the split hold 255 but no gland. 255 means unlabelled "
                        "here: where it was meant as gland, pass --mask-values 0=0,255=1; where it was not, "
                        "--mask-values 0=0,255=255")


def _image(item: FolderItem) -> np.ndarray:
    picture = read_picture(item.image)
    if picture.orientation != 1 and (item.mask or item.instances or item.sparse):
        raise ImageError(f"{item.image}: is stored turned or mirrored (EXIF orientation), which its mask may not be; save "
                         "both upright")
    return picture.rgb


def _mask(path: Path | None, image: np.ndarray, options: FolderOptions) -> np.ndarray | None:
    if path is None:
        return None
    mask = map_mask(read_labels(path), str(path), options.mask_values)
    check_mask(mask, options.num_classes, str(path), image_hw=image.shape[:2])
    return mask


def _instances(path: Path | None, image: np.ndarray) -> np.ndarray | None:
    if path is None:
        return None
    ids = read_labels(path)
    if ids.shape != image.shape[:2]:
        raise DatasetError(f"{path}: is {ids.shape[0]}×{ids.shape[1]} px but its image is {image.shape[0]}×"
                           f"{image.shape[1]} px (height×width)")
    if ids.min() < 0 or ids.max() > 65535:
        raise DatasetError(f"{path}: gland ids must lie between 0 and 65535, found {ids.min()} to {ids.max()}")
    return ids.astype(np.uint16)


def _pictures(folder: Path) -> dict[str, Path]:
    """`{stem: file}` of the image files directly in a folder, in natural order; raises on two files of one stem."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir(), key=lambda f: natural_key(f.name)):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file():
            if file.stem in found:
                raise DatasetError(f"{file}: {found[file.stem].name} has the same name; one of the two must go")
            found[file.stem] = file
    return found


def _scan_one(root: Path, prefix: str, options: FolderOptions) -> list[FolderItem]:
    if (root / "images").is_dir():
        images = _pictures(root / "images")
        masks, instances = (_pictures(root / name) if (root / name).is_dir() else {} for name in ("masks", "instances"))
        wants_instances = bool(instances)
    else:
        beside = _pictures(root)
        masks = {stem: file for stem, file in beside.items() if stem.endswith("_mask")}
        instances = {stem: file for stem, file in beside.items() if stem.endswith("_instances")}
        images = {stem: file for stem, file in beside.items() if stem not in masks and stem not in instances}
        wants_instances = bool(instances)
    sparse: dict[str, Path] = {}
    if options.sparse_masks is not None:
        if not options.sparse_masks.is_dir():
            raise DatasetError(f"{options.sparse_masks}: no such folder of sparse masks")
        sparse = _pictures(options.sparse_masks)

    items, used = [], set()
    for stem, image in images.items():
        mask = masks.get(stem) or masks.get(f"{stem}_mask")
        ids = instances.get(stem) or instances.get(f"{stem}_instances")
        drawn = sparse.get(stem) or sparse.get(f"{stem}_mask")
        used |= {mask, ids}
        needed = drawn if options.sparse_masks is not None else mask
        if needed is None and not options.allow_missing_masks:
            where = options.sparse_masks or root / "masks"
            raise DatasetError(f"{image}: has no mask ({where / image.stem}.png was looked for); add it, or pass "
                               "--allow-missing-masks to keep the image without labels")
        if wants_instances and ids is None:
            raise DatasetError(f"{image}: has no instance map although others have; add it, or remove them all")
        items.append(FolderItem(prefix + stem, image, mask, ids, drawn))
    if strays := [file for file in (*masks.values(), *instances.values()) if file not in used]:
        warnings.warn(f"{strays[0]} (and {len(strays) - 1} more) belongs to no image and is not used", stacklevel=2)
    return items


def _lookup(root: Path, table: Mapping[str, ImageMetadata] | None, item: FolderItem,
            options: FolderOptions) -> ImageMetadata:
    known = ImageMetadata()
    if table is not None:
        line = table.get(item.image_id) or table.get(f"{item.image_id}{item.image.suffix}")
        if line is None:
            raise DatasetError(f"{root / METADATA_FILE}: has no line for {item.image_id} ({item.image}); add one")
        known = line
    patient = known.patient_id
    if not patient and options.patient_pattern:
        match = re.search(options.patient_pattern, item.image_id)
        if match is None:
            raise DatasetError(f"{item.image}: patient pattern '{options.patient_pattern}' matches nothing in the id "
                               f"'{item.image_id}'")
        patient = match[1]
    return ImageMetadata(patient, known.grade, options.mpp if known.mpp is None else known.mpp, known.split)
