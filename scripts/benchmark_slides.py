"""Whole slides against the bare network: synthetic slides, their tile rate, share of post-processing and peak memory.

  python scripts/benchmark_slides.py --model RUN/model --sides 20000 40000 --out hub_cards/benchmarks/slides.json

Slides of the first side with each area of tissue, and one of each other side, are predicted in a process of their own, as
`predict` does it, with the network alone on tiles in memory at the same batch before and after. Ratios are given by the
clock and by the time of processors, as the former say little on a machine that others use.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads: busy-waiting threads starve each other

import numpy as np
import torch
from tifffile import TiffWriter

from hf_gland.cli.main import run_command
from hf_gland.data.sources.synthetic.images import draw_sample
from hf_gland.data.sources.synthetic.layout import MPP
from hf_gland.evaluation.benchmarks import spread, write_benchmark
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.model.cpu import keep_freed_memory, use_all_cores
from hf_gland.options import SLIDE_TILE_PX, Tiling

TILE_PX, LEVELS, BARE_BATCHES = 512, 4, 3  # TILE_PX: of the file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder or Hub id")
    parser.add_argument("--sides", type=int, nargs="+", default=[20_000, 40_000], help="of the slides, in px [%(default)s]")
    parser.add_argument("--areas-mm2", type=float, nargs="+", default=[2.0, 4.0, 8.0], help="of tissue [%(default)s]")
    parser.add_argument("--precision", default="auto", help="of both sides [%(default)s]")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)  # one slide, in a process of its own
    arguments = parser.parse_args()
    use_all_cores()
    if arguments.slide:
        run = one_slide(arguments.slide, arguments.model, arguments.precision, arguments.out.parent)
        arguments.out.write_text(json.dumps(run))
    else:
        write_benchmark(arguments.out, all_slides(arguments))
    return 0


def all_slides(arguments: argparse.Namespace) -> dict:
    """The figures of every slide, and what they come to."""
    runs, first = [], arguments.sides[0]
    with tempfile.TemporaryDirectory() as folder:
        for number, (side, area) in enumerate([*((first, area) for area in arguments.areas_mm2),
                                               *((side, arguments.areas_mm2[0]) for side in arguments.sides[1:])]):
            path, out = Path(folder) / f"{number}.svs", Path(folder) / f"out{number}" / "figures.json"
            write_slide(path, side, area)
            subprocess.run([sys.executable, __file__, "--slide", path, "--model", arguments.model, "--precision",
                            arguments.precision, "--out", out], check=True)
            runs.append({"side_px": side, "tissue_mm2": area} | json.loads(out.read_text("utf-8")))
            print(json.dumps(runs[-1], indent=2), flush=True)
            path.unlink()
    clock = spread(run["tiles_per_s"] / statistics.mean(run["bare_tiles_per_s"]) for run in runs)
    processors = spread(statistics.mean(run["bare_cpu_s_per_tile"]) / run["cpu_s_per_tile"] for run in runs)
    return {"benchmark": "whole slides against the bare network", "precision": f"{runs[0]['precision']} for both",
            "runs": runs, "tile_rate_over_bare": clock["median"],
            "tile_rate_over_bare_by_processor_time": processors["median"],
            "postprocessing_share": statistics.median(run["postprocessing_share"] for run in runs),
            "postprocessing_share_is": "processor time of all that follows the network, writing included, over that of the "
                                       "whole prediction; by the clock it overlaps with the network",
            "peak_memory_mib": {str(side): max(run["peak_memory_mib"] for run in runs if run["side_px"] == side)
                                for side in arguments.sides},
            "ratios": {"tiles per second of a slide, files written / of the bare network": clock,
                       "the same by the time of processors": processors}}


def one_slide(path: Path, model: str, precision: str, out: Path) -> dict:
    """`predict` of one slide, with the bare network before and after; the peak is this process's."""
    keep_freed_memory()
    tiling = Tiling(SLIDE_TILE_PX, precision=precision)
    forward = GlandSegmenter.from_pretrained(model).network(tiling)
    tiles = torch.randint(0, 256, (tiling.batch_size, 3, tiling.tile_px, tiling.tile_px), dtype=torch.uint8)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(BARE_BATCHES):
            forward(tiles)

    words = [str(path), "--model", model, "--precision", precision, "--out", str(out)]
    bare()  # warms up
    before, cpu_before = timed(bare)
    run_command("predict", words)
    after, cpu_after = timed(bare)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    record = json.loads((out / f"{path.stem}.json").read_text("utf-8"))
    took, count, bare_tiles = record["seconds"], record["tiles"], BARE_BATCHES * tiling.batch_size
    whole, cpu = took["prediction in all"], took["prediction in all, of processors"]
    return {"tiles": count, "precision": record["settings"]["precision"], "glands": record["figures"]["glands"],
            "peak_memory_mib": round(int(peak[1]) / 1024) if peak else None, "seconds": took, "tiles_per_s": count / whole,
            "bare_tiles_per_s": [bare_tiles / before, bare_tiles / after], "cpu_s_per_tile": cpu / count,
            "bare_cpu_s_per_tile": [cpu_before / bare_tiles, cpu_after / bare_tiles],
            "postprocessing_share": took["what follows, of processors"] / cpu,
            "postprocessing_share_by_the_clock": (took["finding glands"] + took["writing"]) / whole}


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of this process's processors."""
    clock, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - clock, time.process_time() - cpu


def write_slide(path: Path, side_px: int, tissue_mm2: float) -> None:
    """A pyramid as an SVS: one piece of synthetic tissue, half as wide as the slide; the rest is glass."""
    tissue = draw_sample("test", 0, 0, (2 * TILE_PX, 2 * TILE_PX), 2).image
    height, top, left = round(tissue_mm2 / MPP**2 * 1e6 / (side_px / 2)), side_px // 4, side_px // 4
    glass = zlib.compress(bytes([243]) * (TILE_PX * TILE_PX * 3))

    def tiles(level: int) -> Iterator[bytes]:
        small, span = tissue[::2**level, ::2**level], range(0, side_px >> level, TILE_PX)
        for y, x in ((y, x) for y in span for x in span):
            rows, columns = (np.arange(start, start + TILE_PX) << level for start in (y, x))
            inside = ((rows >= top) & (rows < top + height))[:, None] & ((columns >= left) & (columns < 3 * left))
            if inside.any():
                tile = np.full((TILE_PX, TILE_PX, 3), 243, np.uint8)
                tile[inside] = small[(rows[:, None] >> level) % len(small), (columns >> level) % len(small)][inside]
                yield zlib.compress(tile.tobytes(), 1)
            else:
                yield glass

    with TiffWriter(path, bigtiff=True) as writer:
        for level in range(LEVELS):
            writer.write(tiles(level), shape=(side_px >> level, side_px >> level, 3), dtype=np.uint8, photometric="rgb",
                         tile=(TILE_PX, TILE_PX), compression="zlib", metadata=None,
                         description=f"Aperio Image Library v1|MPP = {MPP}" if level == 0 else None)


if __name__ == "__main__":
    sys.exit(main())
