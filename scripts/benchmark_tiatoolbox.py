"""`predict` against tiatoolbox's SemanticSegmentor: the same weights, tiles and slide, side by side.

  python scripts/benchmark_tiatoolbox.py --model RUN/model --slide CMU-1-Small-Region.svs --tiatoolbox VENV/bin/python \
    --out hub_cards/benchmarks/tiatoolbox.json --slides hub_cards/benchmarks/slides.json

Measured with tiatoolbox 2.1.3, which asks for torch before 2.13, under the same torch 2.13.0 as this package.

tiatoolbox lives in an environment of its own (--tiatoolbox: its python, which needs transformers too). Both predict the
tissue that each finds, in tiles of 512 px, 384 px apart, at the model's pixel size, four at a time, in float32, from the
opened model to files. tiatoolbox averages the classes' probabilities where tiles overlap and writes a class map (zarr, its
default), with as many workers to read as there are cores; once with the network as transformers computes it, as its users
would, and once with this package's cheaper order of the head. `predict` blends with weights that fall off to a tile's edge,
finds glands and writes them: outlines, table, class and confidence maps, picture, record. Runs alternate, each in a process
of its own.
"""

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TILE_PX, STRIDE_PX, BATCH, BARE_BATCHES = 512, 384, 4, 3
SIDES = ("predict", "tiatoolbox", "tiatoolbox with the cheaper head")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a SegFormer model")
    parser.add_argument("--slide", type=Path, required=True, help="what both predict")
    parser.add_argument("--tiatoolbox", required=True, metavar="PYTHON", help="python of tiatoolbox's environment")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side [%(default)s]")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--slides", type=Path, help="record of benchmark_slides.py that is to hold the ratio too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # one run, in a process of its own
    arguments = parser.parse_args()
    if arguments.side:
        run = run_predict(arguments) if arguments.side == "predict" else run_tiatoolbox(arguments)
        arguments.out.write_text(json.dumps(run))
        return 0
    compare(arguments)
    return 0


def compare(arguments: argparse.Namespace) -> None:
    """Runs of all sides in turns, and the ratios of those that ran one after the other."""
    import numpy as np
    import tifffile

    from hf_gland.evaluation.benchmarks import spread, write_benchmark
    from hf_gland.export.results_folder import file_sha256
    from hf_gland.files import write_text_atomically
    from hf_gland.imaging.slides import open_slide, slide_mpp

    runs: dict[str, list[dict]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        outs = {side: Path(folder) / f"{place}.json" for place, side in enumerate(SIDES)}
        for _ in range(arguments.repeats):
            for side, out in outs.items():
                python = sys.executable if side == "predict" else arguments.tiatoolbox
                words = ["--model", arguments.model, "--slide", arguments.slide, "--tiatoolbox", python, "--out", out]
                subprocess.run([python, __file__, *words, "--side", side], check=True,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})
                runs[side].append(json.loads(out.read_text()))
                print(side, json.dumps(runs[side][-1]), flush=True)
        ours, other = tifffile.imread(Path(folder) / "0_mask.ome.tif"), np.load(Path(folder) / "1.npy")
        tissue = tifffile.imread(Path(folder) / "0_confidence.ome.tif") > 0
        agree = float(np.mean((ours == other)[tissue]))
    with open_slide(arguments.slide, arguments.slide.name) as slide:
        about = {"name": arguments.slide.name, "sha256": file_sha256(arguments.slide), "width_px": slide.hw[1],
                 "height_px": slide.hw[0], "mpp": slide_mpp(slide, None)[0][0]}

    def ratio(figure: str, side: str = "tiatoolbox") -> dict[str, float]:
        return spread(ours[figure] / other[figure] for ours, other in zip(runs["predict"], runs[side], strict=True))

    rate, compared = ratio("tiles_per_s"), __doc__.split("\n\n")[3]
    label = "tiles per second of a slide, predict / tiatoolbox's SemanticSegmentor"
    write_benchmark(arguments.out, {
        "benchmark": "whole slides against tiatoolbox's SemanticSegmentor", "about": " ".join(compared.split()),
        "precision": "float32 for both", "slide": about, "tile_rate_over_tiatoolbox": rate["median"],
        "share_of_tissue_with_the_same_class": agree,
        "ratios": {label: rate, f"{label}, by the time of processors": ratio("tiles_per_cpu_s"),
                   f"{label} with the cheaper head": ratio("tiles_per_s", SIDES[2]),
                   f"{label} with the cheaper head, by the time of processors": ratio("tiles_per_cpu_s", SIDES[2])},
        "runs": runs})
    if arguments.slides:
        record = json.loads(arguments.slides.read_text("utf-8"))
        record |= {"tile_rate_over_tiatoolbox": rate["median"], "tile_rate_over_tiatoolbox_record": arguments.out.name}
        record.pop("tile_rate_over_tiatoolbox_reason", None)
        write_text_atomically(arguments.slides, json.dumps(record, indent=2) + "\n")


def run_predict(arguments: argparse.Namespace) -> dict:
    """`predict` of the slide as it is by default, the model opened before."""
    from hf_gland.export.formats import DEFAULT_FORMATS
    from hf_gland.inference.requests import Request
    from hf_gland.inference.segmenter import GlandSegmenter
    from hf_gland.inference.slides.cohort import SlideSettings, predict_one
    from hf_gland.model.cpu import make_fast
    from hf_gland.options import ExportOptions, PostProcessing, Tiling

    make_fast()
    segmenter = GlandSegmenter.from_pretrained(arguments.model, device="cpu")
    tiling = Tiling(TILE_PX, STRIDE_PX, BATCH, precision="float32", match_stain=False)  # the same pixels for both
    settings = SlideSettings(DEFAULT_FORMATS, tiling, PostProcessing(), ExportOptions(), False, {"settings": {}})
    bare = bare_rate(segmenter.network(tiling))
    took = timed()
    record = predict_one(segmenter, Request(arguments.slide, arguments.out.with_suffix(""), slide=True), settings)
    return took(record["tiles"]) | {"bare_tiles_per_s": bare}


def run_tiatoolbox(arguments: argparse.Namespace) -> dict:
    """SemanticSegmentor of the slide, the model opened before; of this package's dependencies it needs torch and
    transformers."""
    import numpy as np
    import torch
    import zarr
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.models.models_abc import ModelABC
    from transformers import SegformerForSemanticSegmentation

    from hf_gland.model.loading import load_config, load_network_weights
    from hf_gland.model.segformer_head import use_cheaper_head

    tiles, cores = 0, len(os.sched_getaffinity(0))

    class Network(ModelABC):
        def __init__(self) -> None:
            super().__init__()
            config = load_config(arguments.model)
            self.net, _ = load_network_weights(SegformerForSemanticSegmentation, arguments.model, config)
            if arguments.side == SIDES[2]:
                use_cheaper_head(self.net)
            facts = json.loads((Path(arguments.model) / "preprocessor_config.json").read_text())
            self.mean, self.std = (255 * torch.tensor(facts[f"image_{name}"]).view(3, 1, 1) for name in ("mean", "std"))
            self.eval()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits = self.net(pixel_values=(pixels - self.mean) / self.std).logits
            logits = logits[:, :logits.shape[1] - bool(getattr(self.net.config, "gland_border", False))]
            return torch.nn.functional.interpolate(logits, size=pixels.shape[-2:], mode="bilinear").softmax(1)

        @staticmethod
        def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> object:
            nonlocal tiles
            tiles += len(batch_data)
            with torch.inference_mode():
                return model(batch_data.permute(0, 3, 1, 2).float()).permute(0, 2, 3, 1).numpy()

        @staticmethod
        def postproc(image: Any) -> Any:
            return image.argmax(axis=-1)

    torch.set_num_threads(cores)
    network = Network()
    bare = bare_rate(lambda batch: network(batch.float()))
    mpp = network.net.config.mpp
    resolution = [{"units": "mpp", "resolution": mpp}]
    config = IOSegmentorConfig(
        input_resolutions=resolution, output_resolutions=resolution, save_resolution=resolution[0],
        patch_input_shape=(TILE_PX, TILE_PX), patch_output_shape=(TILE_PX, TILE_PX), stride_shape=(STRIDE_PX, STRIDE_PX))
    engine = SemanticSegmentor(network, batch_size=BATCH, num_workers=cores, device="cpu", verbose=False)
    took = timed()
    written = engine.run([arguments.slide], patch_mode=False, ioconfig=config, save_dir=arguments.out.with_suffix(""),
                         overwrite=True, output_type="zarr", batch_size=BATCH, num_workers=cores)
    gc.collect()  # ends the workers
    run = took(tiles)
    np.save(arguments.out.with_suffix(".npy"), zarr.open(str(written[arguments.slide]), mode="r")["predictions"][:])
    return run | {"bare_tiles_per_s": bare}


def bare_rate(network: Callable[[Any], Any]) -> float:
    """Tiles per second of the network on tiles in memory."""
    import torch

    tiles = torch.randint(0, 256, (BATCH, 3, TILE_PX, TILE_PX), dtype=torch.uint8)
    with torch.inference_mode():
        network(tiles)  # warms up
        started = time.perf_counter()
        for _ in range(BARE_BATCHES):
            network(tiles)
    return BARE_BATCHES * BATCH / (time.perf_counter() - started)


def timed() -> Callable[[int], dict]:
    """What says, when it is done, how long that many tiles took."""
    started, cpu_started = time.perf_counter(), sum(os.times()[:4])

    def took(tiles: int) -> dict:
        seconds, cpu_s = time.perf_counter() - started, sum(os.times()[:4]) - cpu_started  # with workers that have ended
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        names = ("tiatoolbox", "torch", "transformers")
        return {"tiles": tiles, "seconds": round(seconds, 2), "tiles_per_s": tiles / seconds, "cpu_s": round(cpu_s, 2),
                "tiles_per_cpu_s": tiles / cpu_s, "peak_memory_mib": round(int(peak[1]) / 1024) if peak else None,
                "versions": {name: version(name) for name in names if find_spec(name)}}
    return took


if __name__ == "__main__":
    sys.exit(main())
