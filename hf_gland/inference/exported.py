"""A network as an ONNX file for ONNX Runtime and OpenVINO on a CPU: written once, compared with torch, and timed here."""

import importlib.metadata
import importlib.util
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from hf_gland.environment import hardware
from hf_gland.errors import HfGlandError, ModelError
from hf_gland.export.results_folder import file_sha256
from hf_gland.files import write_atomically, write_text_atomically
from hf_gland.model.backbones import side_multiple_px
from hf_gland.options import SLIDE_TILE_PX

PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}  # of each back-end
NETWORK, RECORD = "network.onnx", "network.json"
TOLERANCE = 1e-3  # by which logits may differ from torch's
MISSING = "pip install 'hf_gland[onnx]'"


class ExportedNetwork(nn.Module):
    """Normalised float32 [B, 3, h, w] to `.logits`, through another library, in float32 on torch's number of threads."""

    def __init__(self, path: Path, backend: str, config: Any):
        super().__init__()
        self.config = config
        self._run = {"onnx": _onnx_runtime, "openvino": _openvino}[backend](path)

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.from_numpy(self._run(pixel_values.contiguous().numpy())))


def export_network(model: nn.Module, weights_sha256: str, folder: Path) -> dict[str, Any]:
    """Write NETWORK and RECORD to `folder`; returns the record: checksums, greatest difference from torch and seconds per
    tile of SLIDE_TILE_PX for each back-end that is installed.

    Raises ModelError for a network that cannot be exported or whose logits differ by more than TOLERANCE.
    """
    if importlib.util.find_spec("onnx") is None:
        raise HfGlandError(f"exporting needs onnx; install it with: {MISSING}")
    name, unit, path = type(model).__name__, side_multiple_px(model), folder / NETWORK
    (folder / RECORD).unlink(missing_ok=True)
    try:
        write_atomically(path, lambda file: _write_onnx(model, 4 * unit, file))
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        raise ModelError(f"{name} cannot be written as ONNX: {str(error).splitlines()[0]}") from error
    found = {"torch": model}
    for backend in PACKAGES:
        if backend != "torch" and _there(backend):
            found[backend] = ExportedNetwork(path, backend, getattr(model, "config", None))
    differences, seconds = dict.fromkeys(found, 0.0), dict.fromkeys(found, float("inf"))
    expected = torch.empty(0)
    with torch.no_grad():
        for hw in ((unit, 3 * unit), (SLIDE_TILE_PX // unit * unit,) * 2):
            tiles = torch.rand(2, 3, *hw, generator=torch.Generator().manual_seed(0)) * 4 - 2
            for _ in range(2):  # the first warms up
                for backend, network in found.items():
                    started = time.perf_counter()
                    logits = network(pixel_values=tiles).logits
                    seconds[backend] = (time.perf_counter() - started) / len(tiles)
                    expected = logits if backend == "torch" else expected
                    differences[backend] = max(differences[backend], float((logits - expected).abs().max()))
    if worst := [backend for backend, difference in differences.items() if not difference <= TOLERANCE]:
        raise ModelError(f"{name} as ONNX gives other logits in {worst[0]} than in torch, by {differences[worst[0]]:.2g}")
    record = {"weights_sha256": weights_sha256, "network_sha256": file_sha256(path), "greatest_difference": differences,
              "seconds_per_tile": seconds, "tile_px": hw[0], "threads": torch.get_num_threads(), "hardware": hardware("cpu"),
              "versions": {backend: version_of(backend) for backend in found}}
    write_text_atomically(folder / RECORD, json.dumps(record, indent=2) + "\n")
    return record


def choose_backend(wanted: str, folder: Path, weights_sha256: Callable[[], str]) -> tuple[str, str | None]:
    """Which of options.BACKENDS a CPU is to take in float32, and what to say about it (None: nothing).

    "auto" takes the fastest by the times that the export measured on this very processor, if the exported network is of
    these weights; else torch. `weights_sha256` is called only where there is a record. Raises HfGlandError for a back-end
    that was asked for and cannot be used.
    """
    if wanted == "torch":
        return wanted, None
    problem = None
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        if record["weights_sha256"] != weights_sha256():
            problem = f"{folder}: exported from other weights than the model's; export it again"
        elif record["network_sha256"] != file_sha256(folder / NETWORK):
            problem = f"{folder / NETWORK}: not the file that was exported; export it again"
        elif wanted == "auto" and record["hardware"] != hardware("cpu"):
            problem = f"{folder}: timed on another machine; export it again to have the fastest back-end chosen here"
        seconds = {backend: float(took) for backend, took in record["seconds_per_tile"].items() if _there(backend)}
    except FileNotFoundError:
        if wanted == "auto":
            return "torch", None
        problem = f"{folder}: holds no exported network; write one with: hf-gland export MODEL"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{folder / RECORD}: cannot be used ({type(error).__name__}: {error}); export the model again"
    if wanted != "auto":
        if problem is None and not _there(wanted):
            problem = f"{PACKAGES[wanted]} is not installed; install it with: {MISSING}"
        if problem:
            raise HfGlandError(problem)
        return wanted, f"back-end: {wanted} ({version_of(wanted)})"
    if problem:
        return "torch", f"back-end: torch ({problem})"
    fastest = min(seconds, key=lambda backend: seconds[backend])
    times = ", ".join(f"{backend} {took * 1000:.0f} ms" for backend, took in seconds.items())
    return fastest, f"back-end: {fastest} ({version_of(fastest)}), the fastest here by a tile's time at the export: {times}"


def version_of(backend: str) -> str:
    """Library and version."""
    return f"{PACKAGES[backend]} {importlib.metadata.version(PACKAGES[backend])}"


def _write_onnx(model: nn.Module, side_px: int, file: BinaryIO) -> None:
    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter that records one pass: it takes a hundredth of the time of the newer one, and is as exact here.
        warnings.simplefilter("ignore")
        pixels = torch.rand(2, 3, side_px, side_px + side_px // 4)
        torch.onnx.export(_Logits(model).eval(), (pixels,), file.name, dynamo=False,
                          input_names=["pixel_values"], output_names=["logits"], opset_version=18,
                          dynamic_axes={"pixel_values": axes, "logits": axes})


class _Logits(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values=pixel_values).logits


def _there(backend: str) -> bool:
    return importlib.util.find_spec(PACKAGES[backend]) is not None


def _onnx_runtime(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other threads find glands meanwhile
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixel_values": pixels})[0]


def _openvino(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads(),
                                                          "INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: network([pixels])[0].copy()
