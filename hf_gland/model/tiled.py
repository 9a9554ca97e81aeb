"""Class probabilities of an image larger than a tile: overlapping tiles, blended smoothly.

Along each axis a tile weighs its pixels by a raised cosine (Hann window), so what a network predicts near a
tile's edge, where it sees half the context, counts least. The weights of all tiles over a pixel sum to 1.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hf_gland.options import Tiling

Forward = Callable[[Tensor], Tensor]


def tile_starts(side_px: int, tile_px: int, stride_px: int) -> list[int]:
    """Where the tiles of one axis begin: every `stride_px`, the last shifted back so that it ends inside."""
    if side_px <= tile_px:
        return [0]
    return [*range(0, side_px - tile_px, stride_px), side_px - tile_px]


def blending_weights(side_px: int, tile_px: int, stride_px: int) -> Tensor:
    """Weights of the tiles of one axis, float64 [tiles, min(tile_px, side_px)], each in (0, 1].

    w_k(i) = sin²(π (i + ½) / n) for pixel i of a tile of n pixels, divided by the sum over the tiles that
    cover the same pixel of the image: over every pixel of the axis the weights sum to 1.
    """
    starts = tile_starts(side_px, tile_px, stride_px)
    length = min(tile_px, side_px)
    window = torch.sin(torch.pi * (torch.arange(length, dtype=torch.float64) + 0.5) / length).square()
    total = torch.zeros(side_px, dtype=torch.float64)
    for start in starts:
        total[start:start + length] += window
    return torch.stack([window / total[start:start + length] for start in starts])


@torch.no_grad()
def tiled_probabilities(forward: Forward, image: Tensor, tiling: Tiling) -> Tensor:
    """Class probabilities of a whole image, float32 [C, H, W] on the image's device.

    `forward` maps float [B, 3, h, w] to probabilities [B, C, h, w] (any float type, any device); `image` is
    float [3, H, W]. Tiles lie as `tiling` says and never hang over the edge; along an
    axis shorter than a tile they are as short as the image. An image no larger than a tile is one plain pass
    at its own size. Beside the result, memory holds one batch of tiles.

    Raises ValueError for an empty or misshapen image, or a `forward` that changes the size.
    """
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"an image must be [channels, height, width], not empty; got {tuple(image.shape)}")
    tile_px, stride_px, batch_size = tiling.tile_px, tiling.stride_px, tiling.batch_size
    height, width = image.shape[1:]
    if max(height, width) <= tile_px:
        return whole_probabilities(forward, image[None])[0]
    row_weights = blending_weights(height, tile_px, stride_px).to(image.device, torch.float32)
    col_weights = blending_weights(width, tile_px, stride_px).to(image.device, torch.float32)
    tile_h, tile_w = row_weights.shape[1], col_weights.shape[1]
    grid = [(i, y, j, x) for i, y in enumerate(tile_starts(height, tile_px, stride_px))
            for j, x in enumerate(tile_starts(width, tile_px, stride_px))]
    result = torch.empty(0)
    for batch in _batches(grid, batch_size):
        tiles = torch.stack([image[:, y:y + tile_h, x:x + tile_w] for _, y, _, x in batch])
        probabilities = _checked_forward(forward, tiles).to(image.device, torch.float32)
        if not result.numel():  # the first batch tells how many classes there are
            result = torch.zeros(probabilities.shape[1], height, width, device=image.device)
        for (i, y, j, x), tile in zip(batch, probabilities, strict=True):
            weight = torch.outer(row_weights[i], col_weights[j])
            result[:, y:y + tile_h, x:x + tile_w].addcmul_(tile, weight)
    return result


@torch.no_grad()
def whole_probabilities(forward: Forward, images: Tensor) -> Tensor:
    """Class probabilities of equally large images, float [N, 3, H, W], in one pass: float32 [N, C, H, W] on their device."""
    return _checked_forward(forward, images).to(images.device, torch.float32).contiguous()


def _batches(items: list, size: int) -> Iterator[list]:
    return (items[start:start + size] for start in range(0, len(items), size))


def _checked_forward(forward: Forward, tiles: Tensor) -> Tensor:
    """`forward(tiles)`; raises ValueError unless it kept the batch and the size."""
    result = forward(tiles)
    if result.ndim != 4 or (len(result), *result.shape[2:]) != (len(tiles), *tiles.shape[2:]):
        raise ValueError(f"forward must return [B, C, h, w] at the size of its input {tuple(tiles.shape)}, "
                         f"got {tuple(result.shape)}")
    return result
