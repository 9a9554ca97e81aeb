"""How long the demo takes beyond the model itself, on a 775×522 picture.

  python tests/space_app/measure_speed.py --model runs/demo/run/model

Times depend on the machine, so nothing is asserted. The bar: answer <= 1.5 × the bare model on the same
tiles + 0.5 s. The sliders need no server.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "space_app"))

import gradio as gr
import torch
from gland_space.analysis import default_choice
from gland_space.demo import Demo
from gland_space.downloads import KINDS, write_download
from gland_space.model_source import load_model, parse_source
from gland_space.pictures import Limits
from gland_space.runner import Job
from gland_space.segment_tab import SegmentTab
from PIL import Image

from hf_gland.data.sources.synthetic.images import iter_synthetic
from hf_gland.imaging.pixel_size import working_hw
from hf_gland.imaging.resample import resample_image
from hf_gland.model.precision import autocast, resolve_precision
from hf_gland.model.tiled import tile_starts
from hf_gland.options import Tiling

TILING = Tiling()  # what GlandSegmenter.predict uses by default


def timed(works, repeats):
    """Median seconds of each work over `repeats` rounds, after one that warms up; in turns, so that all meet the same
    company on the machine."""
    seconds = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, measured in zip(works, seconds, strict=True):
            begun = time.perf_counter()
            work()
            if turn:
                measured.append(time.perf_counter() - begun)
    return [statistics.median(measured) for measured in seconds]


def bare_model(segmenter, rgb, mpp):
    """The network alone on the tiles that the demo gives it, ready in memory."""
    hw = working_hw(rgb.shape[:2], mpp, segmenter.mpp)
    image = torch.from_numpy(resample_image(rgb, hw)).permute(2, 0, 1)
    side, stride, batch = TILING.tile_px, TILING.stride_px, TILING.batch_size
    tiles = [image[:, y:y + side, x:x + side] for y in tile_starts(hw[0], side, stride)
             for x in tile_starts(hw[1], side, stride)]
    batches = [segmenter.preprocessing(torch.stack(tiles[i:i + batch])) for i in range(0, len(tiles), batch)]

    @torch.no_grad()
    def run():
        with autocast("cpu", resolve_precision("cpu")):
            for batch in batches:
                segmenter.model(pixel_values=batch)

    return run, len(tiles)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hub id or folder")
    parser.add_argument("--mpp", type=float, nargs="+", default=[0.62, 0.31], help="pixel sizes to measure at")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    (sample,) = iter_synthetic("test", images=1, size_px=(522, 775))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "picture.png"
        Image.fromarray(sample.image).save(path)
        demo = Demo(load_model(parse_source(arguments.model)), None, Path(place) / "files", Limits())
        with gr.Blocks():
            tab = SegmentTab(demo, [])
        value = {}

        def answer(mpp):
            """Everything between the upload and the finished view: read, segment, measure, draw."""
            nonlocal value
            start, _ = demo.load(path)
            *_, (_, changes) = tab.answer(Job(), {"view": start}, str(mpp), 75)
            value = changes[tab.stage]
            tab.view(value["view"])

        def write(kind):
            analysis = demo.store.get(value["view"]).analysis
            write_download(kind, analysis, default_choice(analysis), "model", demo.out_folder())

        for mpp in arguments.mpp:
            model, tiles = bare_model(demo.model.segmenter, sample.image, mpp)
            bare, whole = timed([model, lambda mpp=mpp: answer(mpp)], arguments.repeats)
            print(f"775×522 px at {mpp} µm per pixel, {tiles} tile(s), {arguments.threads} threads: bare model "
                  f"{bare:.3f} s, whole answer {whole:.3f} s; allowed {1.5 * bare + 0.5:.3f} s; ratio {whole / bare:.2f}")
            files = timed([lambda kind=kind: write(kind) for kind in KINDS], 5)
            print("  files " + ", ".join(
                f"{kind} {1000 * seconds:.0f} ms" for kind, seconds in zip(KINDS, files, strict=True)))
        demo.runner.close()


if __name__ == "__main__":
    main()
