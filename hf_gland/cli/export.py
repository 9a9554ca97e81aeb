"""A model as an ONNX file, with which `predict` runs on ONNX Runtime or OpenVINO where these are faster on a CPU.

  python scripts/export.py runs/glas/model
  python scripts/predict.py slides --model runs/glas/model --out study

Needs pip install 'hf_gland[onnx]'. Each library is compared with torch and timed; `predict` takes the fastest.
"""

import argparse
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder, such as RUN/model, or Hub id")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub model (default: main)")
    parser.add_argument("--student", action="store_true", help="the student instead of the teacher")
    parser.add_argument("--out", type=Path, help="folder to write [MODEL/onnx, where predict looks]")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from hf_gland.errors import HfGlandError
    from hf_gland.inference.exported import export_network
    from hf_gland.inference.segmenter import GlandSegmenter
    from hf_gland.model.cpu import make_fast

    make_fast()
    if arguments.out is None and not Path(arguments.model).is_dir():
        raise HfGlandError(f"{arguments.model}: not a folder; say with --out where to write the exported network, and give "
                           "predict the same as --exported")
    out = arguments.out or Path(arguments.model) / "onnx"
    segmenter = GlandSegmenter.from_pretrained(arguments.model, arguments.revision, "cpu",
                                               "student" if arguments.student else None)
    record = export_network(segmenter.model, segmenter.weights_sha256(), out)
    for backend, seconds in record["seconds_per_tile"].items():
        print(f"{record['versions'][backend]}: {seconds * 1000:.0f} ms per tile of {record['tile_px']} px; logits differ "
              f"from torch's by at most {record['greatest_difference'][backend]:.1g}")
    print(f"written to {out}")
