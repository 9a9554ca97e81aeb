"""Files that are damaged or made to harm: each is read, or named in an ImageError, and none takes the machine down."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from hf_gland.errors import HfGlandError, ImageError
from hf_gland.imaging.label_maps import read_labels
from hf_gland.imaging.opening import displayable
from hf_gland.imaging.pictures import read_picture, read_rgb

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def pyramid(big: bool) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=big) as writer:
        writer.write(RGB, photometric="rgb", subifds=1, compression="zlib", description="MPP = 0.25")
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1, tile=(16, 16))
    return buffer.getvalue()


def whole_files() -> dict[str, bytes]:
    colour, few = Image.fromarray(RGB), Image.fromarray(RGB).quantize(16)
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "png": encoded(colour, "PNG", dpi=(50_800, 50_800)), "palette": encoded(few, "PNG", transparency=1),
        "16 bits": encoded(Image.fromarray(RGB[..., 0].astype(np.uint16) * 200), "PNG"),
        "jpeg": encoded(colour, "JPEG", exif=turned), "progressive": encoded(colour, "JPEG", progressive=True),
        "bmp": encoded(colour, "BMP"), "gif": encoded(few, "GIF"), "webp": encoded(colour, "WEBP", exif=turned),
        "lossless webp": encoded(colour, "WEBP", lossless=True), "pyramid": pyramid(False), "big": pyramid(True),
        **{f"tiff {how}": encoded(colour.convert("1") if how == "group4" else colour, "TIFF", compression=how)
           for how in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4")}}


@pytest.mark.filterwarnings("ignore")  # Pillow grumbles about damaged tags
@pytest.mark.parametrize(("kind", "whole"), whole_files().items())
def test_every_damaged_file_is_read_or_named(tmp_path: Path, kind: str, whole: bytes) -> None:
    rng, file, errors = np.random.default_rng(5), tmp_path / "a.bin", []
    file.write_bytes(whole)
    assert read_rgb(file).shape in (RGB.shape, (32, 24, 3))
    for _ in range(60):
        damaged = bytearray(whole[:int(rng.integers(1, len(whole)))] if rng.random() < 0.15 else whole)
        for place in rng.integers(0, min(len(damaged), 300), 2):
            damaged[place] = rng.choice([0, 127, 128, 255, rng.integers(256)])
        file.write_bytes(damaged)
        for reader in (read_rgb, read_labels, lambda path: read_picture(path, max_side_px=10, page=1)):
            try:
                reader(file)
            except HfGlandError as error:
                errors.append(str(error))
    assert len(errors) > 20
    assert [error for error in errors if not error.startswith(f"{file}: ")] == []


def test_the_header_is_checked_before_a_progressive_jpeg_is_decoded_at_a_fraction(tmp_path: Path) -> None:
    """Its decoder keeps the whole at full size, whatever fraction is asked for."""
    for progressive in (False, True):
        Image.new("RGB", (1000, 800), (200, 120, 160)).save(tmp_path / "a.jpg", progressive=progressive)
        if progressive:
            with pytest.raises(ImageError, match="1000×800 px, above the limit"):
                read_picture(tmp_path / "a.jpg", max_pixels=40_000, max_side_px=100)
        else:
            picture = read_picture(tmp_path / "a.jpg", max_pixels=40_000, max_side_px=100)
            assert (picture.rgb.shape, picture.full_hw, picture.reduction) == ((80, 100, 3), (800, 1000), 10)


def test_a_jpeg_of_one_scan_for_each_colour_is_checked_at_full_size_too(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 800)).save(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    data[data.index(b"\xff\xda") + 4] = 1  # colours in the first scan
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match="1000×800 px, above the limit"):
        read_picture(tmp_path / "a.jpg", max_pixels=40_000, max_side_px=100)


def test_a_run_length_bmp_cannot_write_rows_without_end(tmp_path: Path) -> None:
    """161 kB whose one row of 18 million pixels is skipped 255 times at each step: 4.6 GB at once."""
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    body, start = b"\0\2\xff\xff" * 40_000, 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 18_000_000, 1, 1, 8, 1, len(body), 2835, 2835, 256, 0)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body)
    for reader in (read_rgb, read_labels):
        with pytest.raises(ImageError, match="18000000×1 px, above the limit"):
            reader(tmp_path / "a.bmp")


def test_a_tiff_whose_directory_claims_the_same_bytes_over_and_over_is_refused(tmp_path: Path) -> None:
    """300 tags of 1 MB each in a file of 1 MB: Pillow would keep them all."""
    tags = [(256, 3, 1, 10), (257, 3, 1, 10), *((1000 + i, 7, 2**20, 16) for i in range(300))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + bytes(2**20))
    with pytest.raises(ImageError, match=r"a\.tif: .*its directory is damaged"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("tag", [322, 323])
def test_a_tiff_with_tiles_larger_than_any_picture_is_refused(tmp_path: Path, tag: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", tile=(16, 16))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        tiff.pages[0].tags[tag].overwrite(2**28)
    with pytest.raises(ImageError, match="above the limit"):
        read_rgb(tmp_path / "a.tif")


def test_a_chain_of_pages_that_bites_its_tail_ends(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * tags, first)
    (tmp_path / "a.tif").write_bytes(data)
    assert np.array_equal(read_rgb(tmp_path / "a.tif"), RGB)


def test_a_text_that_unpacks_to_a_thousand_times_its_size_is_named(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "A" * (8 * 2**20), zip=True)
    Image.fromarray(RGB).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(ImageError, match=r"a\.png: the file is damaged or cut short \(Decompressed data too large"):
        read_rgb(tmp_path / "a.png")


def test_names_that_are_no_utf8_or_too_long_are_shown_in_a_way_that_can_be_printed(tmp_path: Path) -> None:
    strange = Path(str(tmp_path), "caf\udce9.png")
    strange.write_bytes(b"nothing")
    for path, shown in ((strange, "caf\\xe9.png"), (tmp_path / ("x" * 300 + ".png"), "x" * 300 + ".png")):
        with pytest.raises(ImageError) as caught:
            read_rgb(path)
        assert shown in str(caught.value).encode("utf-8").decode("utf-8")
        assert displayable(path).endswith(shown)
    Image.fromarray(RGB).save(strange)
    assert np.array_equal(read_rgb(strange), RGB)
