"""Slides of any size that take little time to write: dark discs on a bright ground, and most tiles are one and the same."""

import zlib

import numpy as np
import tifffile

TILE_PX = 256
BRIGHT, DARK = 240, 12


def _tile(left, top, size, discs):
    """uint8 [TILE_PX, TILE_PX, 3] whose pixels are `size` pixels of the slide wide, from (left, top) in these; every second
    column of a disc is a little lighter, which no smaller level shows."""
    y, x = ((np.arange(TILE_PX) + 0.5) * size + start for start in (top, left))
    pixels = np.full((TILE_PX, TILE_PX), BRIGHT, np.uint8)
    for centre_x, centre_y, radius in discs:
        inside = (x - centre_x)[None] ** 2 + (y - centre_y)[:, None] ** 2 <= radius**2
        pixels[inside] = DARK
        if size == 1:
            pixels[:, ::2][inside[:, ::2]] = DARK + 40
    return np.repeat(pixels[..., None], 3, axis=2)


def write_scene(path, width, height, discs, mpp=0.5, levels=6, ome=False):
    """An Aperio-like pyramid (or an OME-TIFF) with `discs`: (x, y, radius) in pixels; each level halves the one before."""
    blank = zlib.compress(_tile(0, 0, 1, ()).tobytes())

    def tiles(level, wide, high):
        size = 2**level
        for top in range(0, high, TILE_PX):
            for left in range(0, wide, TILE_PX):
                box = np.array([left, top, left + TILE_PX, top + TILE_PX]) * size
                near = [d for d in discs if box[0] - d[2] < d[0] < box[2] + d[2] and box[1] - d[2] < d[1] < box[3] + d[2]]
                yield zlib.compress(_tile(box[0], box[1], size, near).tobytes()) if near else blank

    with tifffile.TiffWriter(path, ome=ome) as writer:
        for level in range(levels):
            wide, high = width >> level, height >> level
            options = {"shape": (high, wide, 3), "dtype": np.uint8, "tile": (TILE_PX, TILE_PX), "photometric": "rgb",
                       "compression": "adobe_deflate", "subfiletype": int(level > 0), "metadata": None}
            if ome and level == 0:
                options |= {"subifds": levels - 1, "metadata": {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}}
            elif level == 0:
                options["description"] = ("Aperio Image Library v10.0.51\n1000x1000 [0,0 1000x1000] (256x256)|AppMag = 20|"
                                          f"MPP = {mpp:g}|Filename = test")
            writer.write(tiles(level, wide, high), **options)
    return path
