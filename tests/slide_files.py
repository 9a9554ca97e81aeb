"""Slides as scanners write them, small: pyramids with Aperio's header, or another."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid


def texture(hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth random colours, uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (hw[0] // 40 + 2, hw[1] // 40 + 2, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize(hw[::-1], Image.Resampling.BICUBIC))


def aperio(mpp: float | None = 0.5) -> str:
    stated = "" if mpp is None else f"|MPP = {mpp:g}"
    return f"Aperio Image Library v10.0.51\n1000x1000 [0,0 1000x1000] (256x256)|AppMag = 20{stated}|Filename = test"


def write_slide(path: Path, rgb: np.ndarray, *, levels: int = 3, description: str | None = None,
                resolution: tuple[float, str] | None = None, ome: dict | None = None, tile_px: int = 128, **more) -> Path:
    """A pyramid whose levels are pages (or, with `ome`, metadata of an OME-TIFF, sub-pages); each halves the one before.
    `more` goes to tifffile."""
    kind = {"photometric": "rgb", "tile": (tile_px, tile_px), "compression": "deflate"} | more
    with tifffile.TiffWriter(path, ome=ome is not None) as writer:
        for level in range(levels):
            options = dict(kind, subfiletype=int(level > 0))
            if ome is None:
                options["metadata"] = None
            elif level == 0:
                options |= {"subifds": levels - 1, "metadata": {"axes": "YXS"} | ome}
            if level == 0 and description is not None:
                options["description"] = description
            if resolution is not None:
                options |= {"resolution": (resolution[0], resolution[0]), "resolutionunit": resolution[1]}
            writer.write(rgb, **options)
            rgb = np.array(Image.fromarray(rgb).resize((rgb.shape[1] // 2, rgb.shape[0] // 2), Image.Resampling.BOX))
    return path


def write_scn(path: Path, rgb: np.ndarray, corner_xy: tuple[int, int], glass_hw: tuple[int, int]) -> Path:
    """A Leica slide at 0.5 µm per pixel, of three levels: `rgb` was scanned at `corner_xy` on glass of `glass_hw` pixels."""
    (height, width), (x, y), nm = rgb.shape[:2], corner_xy, 500
    dimensions = "".join(f'<dimension sizeX="{width >> level}" sizeY="{height >> level}" r="{level}" ifd="{level}"/>'
                         for level in range(3))
    description = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection sizeX="{glass_hw[1] * nm}" sizeY="{glass_hw[0] * nm}"><image><pixels>{dimensions}</pixels>'
        f'<view sizeX="{width * nm}" sizeY="{height * nm}" offsetX="{x * nm}" offsetY="{y * nm}"/>'
        "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image></collection></scn>")
    return write_slide(path, rgb, description=description, resolution=(20_000, "CENTIMETER"))


def write_dicom(folder: Path, rgb: np.ndarray, *, levels: int = 3, mpp: float = 0.5, tile_px: int = 128,
                series: str | None = None) -> list[Path]:
    """A DICOM slide: a file for each level, each of half the size of the one before, tiles without compression."""
    series, files = series or generate_uid(), []
    folder.mkdir(parents=True, exist_ok=True)
    for level in range(levels):
        (height, width), (rows, columns) = rgb.shape[:2], (-(-side // tile_px) for side in rgb.shape[:2])
        whole = np.full((rows * tile_px, columns * tile_px, 3), 255, np.uint8)
        whole[:height, :width] = rgb
        data, spacing, measures = Dataset(), Dataset(), Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = VLWholeSlideMicroscopyImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality = series, generate_uid(), "SM"
        data.ImageType = ["DERIVED" if level else "ORIGINAL", "PRIMARY", "VOLUME", "RESAMPLED" if level else "NONE"]
        data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows, data.DimensionOrganizationType = width, height, "TILED_FULL"
        data.Rows, data.Columns, data.NumberOfFrames = tile_px, tile_px, rows * columns
        data.SamplesPerPixel, data.PlanarConfiguration, data.PhotometricInterpretation = 3, 0, "RGB"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
        spacing.PixelSpacing, spacing.SliceThickness = [mpp * 2**level / 1000] * 2, 0.001  # mm
        measures.PixelMeasuresSequence = [spacing]
        data.SharedFunctionalGroupsSequence = [measures]
        data.PixelData = whole.reshape(rows, tile_px, columns, tile_px, 3).swapaxes(1, 2).tobytes()
        files.append(folder / f"level_{level}.dcm")
        data.save_as(files[-1], enforce_file_format=True)
        rgb = np.array(Image.fromarray(rgb).resize((width // 2, height // 2), Image.Resampling.BOX))
    return files


def damage_tile(path: Path, index: int, page: int = 0) -> None:
    """Overwrite one tile's compressed bytes."""
    with tifffile.TiffFile(path) as file:
        offset, length = file.pages[page].dataoffsets[index], file.pages[page].databytecounts[index]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * length)


def drop_tile(path: Path, index: int) -> None:
    """Make one tile of the largest level one that is not stored."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags["TileByteCounts"]
        tag.overwrite([0 if place == index else count for place, count in enumerate(tag.value)])


def contents(out: Path) -> dict[str, object]:
    """What slides were predicted to, by name; of records and the table of slides what does not tell of time."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in out.iterdir()}
    for name, text in list(found.items()):
        if name.endswith(".json"):
            found[name] = {key: value for key, value in json.loads(text).items() if key != "seconds"}
        elif name == "slides.csv":
            found[name] = [row | {"seconds": None} for row in csv.DictReader(io.StringIO(text.decode()))]
    return found
