"""Any folder of images and masks.

    root/images/a.png    root/masks/a.png (or a_mask.png)    [root/instances/a.png]    [root/metadata.csv]
    root/a.png           root/a_mask.png                     [root/a_instances.png]    [root/metadata.csv]
    root/train/images/…  root/val/images/…                   one folder per split, each like the first

PNG, JPEG, TIFF, BMP or WebP (masks: not JPEG or WebP, which alter numbers), paired by stem. The split of an image is
metadata.csv's, else its folder's, else `train`; `val` is called `validation`. What is left out of the folder, and how
masks were understood, is said in warnings.
"""

import argparse
import contextlib
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hf_gland.data.metadata import ImageMetadata, ImageTable, check_patient_pattern, known_of, read_metadata
from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sparsify import SparseAnnotation, as_drawn
from hf_gland.data.split import with_usual_names
from hf_gland.errors import DatasetError, HfGlandError, ImageError
from hf_gland.imaging.find import Found, pictures_in
from hf_gland.imaging.label_maps import map_mask, read_labels
from hf_gland.imaging.opening import SUFFIXES
from hf_gland.imaging.pictures import Picture, read_picture
from hf_gland.labels import BACKGROUND, BINARY_CLASSES, IGNORE_INDEX, MaskError, check_class_names, check_mask
from hf_gland.markdown import count

METADATA_FILE = "metadata.csv"
_PARTS = ("images", "masks", "instances")


@dataclass(frozen=True)
class FolderOptions:
    """How to read a folder.

    num_classes     background included.
    mask_values     the masks' numbers → class (or 255); None: the numbers are the classes, but see `settle_masks`.
    as_is           the masks are sparse already: they become the supervision, and no dense truth is known.
    sparse_masks    a folder of sparse masks that are the supervision, `masks/` being the dense truth beside them.
    allow_missing_masks   images without a mask are kept, wholly unlabelled, instead of being an error.
    mpp             µm per pixel of images for which metadata.csv gives none; None: what their files state, if anything.
    patient_pattern a regular expression with one group, searched in the image's file name without suffix (the id has the
                    split folder before it, which is no patient's), for images to which metadata.csv gives no patient.
    source          the name of the data, kept with each row.
    gland_is_255    dense masks hold 0 and 255 alone, for background and gland (`settle_masks` finds out).
    """

    num_classes: int = 2
    mask_values: Mapping[int, int] | None = None
    as_is: bool = False
    sparse_masks: Path | None = None
    allow_missing_masks: bool = False
    mpp: float | None = None
    patient_pattern: str = ""
    source: str = "folder"
    gland_is_255: bool = False

    def __post_init__(self) -> None:
        if self.as_is and self.sparse_masks is not None:
            raise ValueError("either the masks are sparse as they are, or a folder of sparse masks is given, not both")
        check_patient_pattern(self.patient_pattern)
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
    parts = [part for part in sorted(root.iterdir()) if (part / "images").is_dir() and not part.name.startswith(".")]
    if (root / "images").is_dir() or not parts:
        items = [("", item) for item in _scan_one(root, "", options)]
    else:
        items = [(part.name, item) for part in parts for item in _scan_one(part, f"{part.name}_", options)]
        _say_left_out(root, parts)
    if not items:
        raise DatasetError(f"{root}: holds no images ({', '.join(SUFFIXES)}); expected images/ and masks/, or name.png "
                           "beside name_mask.png")
    _check_shared([item for _, item in items])
    tables = _read_tables(root, sorted({split for split, _ in items}))
    splits: dict[str, list[FolderItem]] = {}
    for folder_split, item in items:
        known = known_of(item.image, item.image_id, tables.get(folder_split), options.patient_pattern)
        known = known if known.mpp is not None else replace(known, mpp=options.mpp)
        splits.setdefault(known.split or folder_split or "train", []).append(replace(item, metadata=known))
    named = {key for _, item in items for key in (item.image_id, f"{item.image_id}{item.image.suffix}")}
    for table in tables.values():
        if strays := [name for name in table.lines if name not in named]:
            raise DatasetError(f"{table.path}: image_id '{strays[0]}' (and {len(strays) - 1} more) is no image of the "
                               "folder; correct or remove the line")
    return splits


def _read_tables(root: Path, folder_splits: Sequence[str]) -> dict[str, ImageTable]:
    """The metadata.csv of each folder of a split, its lines by the image's whole id: the folder's own, or that of
    `root`, which is for all of them. Raises DatasetError where there are both."""
    whole = root / METADATA_FILE
    own = {split: path for split in folder_splits if split and (path := root / split / METADATA_FILE).is_file()}
    if whole.is_file():
        if own:
            raise DatasetError(f"{next(iter(own.values()))}: {whole} is there too; keep one of them")
        return dict.fromkeys(folder_splits, read_metadata(whole))
    return {split: ImageTable(path, {f"{split}_{name}": known for name, known in read_metadata(path).lines.items()})
            for split, path in own.items()}


def _check_shared(items: Sequence[FolderItem]) -> None:
    """Raise DatasetError where one sparse mask was found for two pictures."""
    first: dict[Path, FolderItem] = {}
    for item in items:
        if item.sparse is not None and (other := first.setdefault(item.sparse, item)) is not item:
            raise DatasetError(f"{item.sparse}: is the sparse mask of {other.image} and of {item.image} by its name; put "
                               f"one for each into {item.sparse.parent}/SPLIT")


def settle_masks(splits: Mapping[str, Sequence[FolderItem]], options: FolderOptions) -> FolderOptions:
    """The options with the one question answered that only all masks together can: what their 255 means.

    Dense masks of 0 and 255 alone are background and gland of two classes; with any other number beside them, or in
    sparse masks, 255 is unlabelled. Either is said in a warning. Raises MaskError where 255 can only have been meant as
    gland, or as one of several classes.
    """
    if options.mask_values is not None:
        return options
    items = [item for part in splits.values() for item in part]
    numbers = _numbers_of([item.mask for item in items])
    drawn = _numbers_of([item.sparse for item in items]) if options.sparse_masks else numbers if options.as_is else set()
    remedy = ("where it was meant as gland, pass --mask-values 0=0,255=1; where it was not, --mask-values 0=0,255=255")
    for of, found in (("sparse masks", drawn), ("masks", numbers)):
        alone = IGNORE_INDEX in found and found <= {BACKGROUND, IGNORE_INDEX}
        if alone and (found is drawn or BACKGROUND not in found or options.num_classes > 2):
            raise MaskError(f"{items[0].sparse or items[0].mask} and the other {of} hold 255 but no gland. 255 means "
                            f"unlabelled here: {remedy}")
    if options.as_is or IGNORE_INDEX not in numbers:
        return options
    if numbers <= {BACKGROUND, IGNORE_INDEX}:
        warnings.warn("the masks hold 0 and 255 alone, which was understood as background and gland (if 255 means "
                      "unlabelled: --style as-is)", stacklevel=2)
        return replace(options, gland_is_255=True)
    if options.sparse_masks is None:
        warnings.warn("the masks mark pixels as unlabelled (255), and every style but full makes them sparse once more; "
                      "pass --style as-is to keep all that was drawn by hand", stacklevel=2)
    return options


def _numbers_of(masks: Iterable[Path | None]) -> set[int]:
    """All numbers in these masks; none for those that cannot be read, which will be named when they are used."""
    found: set[int] = set()
    for path in masks:
        if path is not None:
            with contextlib.suppress(HfGlandError):
                found |= set(np.unique(read_labels(path)).tolist())
    return found


def read_items(items: Sequence[FolderItem], options: FolderOptions,
               ) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
    """Each item's sample, and its given sparse annotation (None unless `as_is` or `sparse_masks`)."""
    stated: list[float] = []
    differ: list[str] = []
    silent: list[Path] = []
    dense_values = {BACKGROUND: BACKGROUND, IGNORE_INDEX: 1} if options.gland_is_255 else options.mask_values
    for item in items:
        picture = _picture(item)
        image, mpp = picture.rgb, item.metadata.mpp
        if mpp is None and picture.mpp is not None:
            mpp = picture.mpp
            stated.append(mpp)
        elif mpp is not None and picture.mpp is not None and not 0.95 < mpp / picture.mpp < 1.05:
            differ.append(f"{item.image} states {picture.mpp:g} µm per pixel, {mpp:g} was given")
        elif mpp is None:
            silent.append(item.image)
        mask = _mask(item.mask, image, options.num_classes, dense_values)
        sparse = mask if options.as_is else _mask(item.sparse, image, options.num_classes, options.mask_values)
        sample = Sample(image, None if options.as_is else mask, _instances(item.instances, image), item.image_id,
                        item.metadata.patient_id, options.source, item.metadata.grade, mpp)
        given = as_drawn(sparse, sample.mask, sample.instances) if sparse is not None else None
        if given is None and (options.as_is or options.sparse_masks is not None):
            given = as_drawn(np.full(image.shape[:2], IGNORE_INDEX, np.uint8), sample.mask, sample.instances)
        yield sample, given
    if stated:
        sizes = " to ".join(f"{mpp:g}" for mpp in sorted({min(stated), max(stated)}))
        warnings.warn(f"the pixel size of {count(len(stated), 'image')} is what the file states, {sizes} µm; --mpp or "
                      "metadata.csv would take precedence", stacklevel=2)
        if silent:
            warnings.warn(f"{count(len(silent), 'image')} without a pixel size beside them, such as {silent[0]}; give it in "
                          "metadata.csv, or training needs --missing_mpp", stacklevel=2)
    if differ:
        warnings.warn(f"{differ[0]} and used" + (f"; so for {len(differ) - 1} more" if len(differ) > 1 else ""),
                      stacklevel=2)


def _picture(item: FolderItem) -> Picture:
    picture = read_picture(item.image)
    if picture.orientation != 1 and (item.mask or item.instances or item.sparse):
        raise ImageError(f"{item.image}: is stored turned or mirrored (EXIF orientation), which its mask may not be; save "
                         "both upright")
    return picture


def _mask(path: Path | None, image: np.ndarray, num_classes: int, values: Mapping[int, int] | None) -> np.ndarray | None:
    if path is None:
        return None
    mask = map_mask(read_labels(path), str(path), values)
    check_mask(mask, num_classes, str(path), image_hw=image.shape[:2])
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
    named: dict[str, Path] = {}
    if not folder.is_dir():
        return named
    found = pictures_in(folder)
    for file in found.pictures:
        if file.stem in named:
            raise DatasetError(f"{file}: {named[file.stem].name} has the same name; one of the two must go")
        named[file.stem] = file
    if folder.name in _PARTS:
        _warn_of(found)
    return named


def _say_left_out(root: Path, used: Collection[Path], flat: bool = False) -> None:
    """Warn of pictures that lie beside the folders (or, where `flat`, the pictures) that are read."""
    found = pictures_in(root)
    for picture in found.pictures if not flat else ():
        found.leave_out(picture, "a picture beside the folders that were read")
    beside = {reason: [path for path in paths if path not in used and path.name != METADATA_FILE]
              for reason, paths in found.left_out.items()}
    _warn_of(Found([], {reason: paths for reason, paths in beside.items() if paths}))


def _warn_of(found: Found) -> None:
    for note in found.notes():
        warnings.warn(note, stacklevel=2)


def _scan_one(root: Path, prefix: str, options: FolderOptions) -> list[FolderItem]:
    if (root / "images").is_dir():
        images, masks, instances = (_pictures(root / name) for name in _PARTS)
    else:
        beside = _pictures(root)
        masks = {stem: file for stem, file in beside.items() if stem.endswith("_mask")}
        instances = {stem: file for stem, file in beside.items() if stem.endswith("_instances")}
        images = {stem: file for stem, file in beside.items() if stem not in masks and stem not in instances}
    _say_left_out(root, [options.sparse_masks or root, *(root / name for name in _PARTS)], not (root / "images").is_dir())
    sparse: dict[str, Path] = {}
    if options.sparse_masks is not None:
        if not options.sparse_masks.is_dir():
            raise DatasetError(f"{options.sparse_masks}: no such folder of sparse masks")
        of_split = options.sparse_masks / root.name  # where pictures of several splits have the same names
        sparse = _pictures(of_split if prefix and of_split.is_dir() else options.sparse_masks)

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
        if instances and ids is None:
            raise DatasetError(f"{image}: has no instance map although others have; add it, or remove them all")
        items.append(FolderItem(prefix + stem, image, mask, ids, drawn))
    if strays := [file for file in (*masks.values(), *instances.values()) if file not in used]:
        warnings.warn(f"{strays[0]} (and {len(strays) - 1} more) belongs to no image and is not used", stacklevel=2)
    return items


def _numbers(text: str) -> dict[int, int]:
    """`0=0,255=1` as {0: 0, 255: 1}."""
    pairs = [part.split("=") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs) or len({int(pair[0]) for pair in pairs}) != len(pairs):
        raise ValueError(text)
    return {int(value): int(class_id) for value, class_id in pairs}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, type=Path, help="the folder")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="only these [all there are]")
    parser.add_argument("--class-names", nargs="+", default=list(BINARY_CLASSES), metavar="NAME",
                        help="background first [%(default)s]")
    parser.add_argument("--mask-values", type=_numbers, metavar="0=0,255=1",
                        help="the masks' numbers and their classes (255: unlabelled) [numbers are classes; 0 and 255 alone: "
                             "background and gland]")
    parser.add_argument("--sparse-masks", type=Path, metavar="DIR",
                        help="sparse masks drawn by hand (or DIR/SPLIT/ of each split); masks/ is then the dense truth, for "
                        "evaluation only")
    parser.add_argument("--allow-missing-masks", action="store_true", help="keep images without a mask, unlabelled")
    parser.add_argument("--mpp", type=float, help="µm per pixel, where metadata.csv gives none [unknown]")
    parser.add_argument("--patient-pattern", default="", metavar="REGEX",
                        help="finds the patient in an image's name, e.g. '^(P[0-9]+)_' [metadata.csv's patient_id]")
    parser.add_argument("--source-name", default="", metavar="NAME", help="of the data, kept in each row; patients "
                        "are known by it and their id, so keep it for the same patients [folder name]")
    parser.add_argument("--licence", default="unknown", help="of the images, e.g. cc-by-4.0 [%(default)s]")


def _open(arguments: argparse.Namespace) -> Offer:
    sparse_masks, style = arguments.sparse_masks, arguments.style
    if sparse_masks is not None and style not in (None, "as-is"):
        raise DatasetError(f"--sparse-masks are used as they are; they cannot be combined with --style {style}")
    by_hand = sparse_masks is not None or style == "as-is"
    name = arguments.source_name or arguments.root.resolve().name
    options = FolderOptions(
        num_classes=len(check_class_names(arguments.class_names)), mask_values=arguments.mask_values, mpp=arguments.mpp,
        as_is=by_hand and sparse_masks is None, sparse_masks=sparse_masks, source=name,
        allow_missing_masks=arguments.allow_missing_masks, patient_pattern=arguments.patient_pattern)
    plan = with_usual_names(scan_folder(arguments.root, options))
    if missing := sorted(set(arguments.splits or plan) - set(plan)):
        raise DatasetError(f"{arguments.root}: has no split '{missing[0]}'; it has {', '.join(sorted(plan))}")
    options = settle_masks(plan, options)
    splits = {split: [Item(i.image_id, i.metadata.patient_id, i.metadata.grade, i) for i in plan[split]]
              for split in arguments.splits or plan}

    def read(items: Sequence[Item]) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
        return read_items([item.files for item in items], options)

    return Offer(splits, read, name, arguments.licence, arguments.class_names, by_hand)


SOURCE = Source(
    name="folder", title="", summary="any folder of images and masks", description=__doc__, add_options=_add_options,
    open=_open, styles=("as-is",), held_out=0.175)
