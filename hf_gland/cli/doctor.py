"""What matters for speed and function on this machine: processor, memory, versions, disk, Hub, a model.

  hf-gland doctor
  hf-gland doctor --model runs/first/model      also loads it and times one picture

Exit status: 0 if everything that is needed works, 1 if something does not.
"""

import argparse
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TESTED = ("torch", "transformers", "datasets", "accelerate", "huggingface_hub", "safetensors", "evaluate", "gradio")
OPTIONAL = {"gradio"}
HUB_PATIENCE_S = 5.0
LEAST_FREE_GB = 2.0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER_OR_ID", help="a model to load and to time")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub model")
    return parser


def run(arguments: argparse.Namespace) -> int:
    checks: list[tuple[str, Callable[[], tuple[bool, str]]]] = [
        ("python", lambda: (sys.version_info >= (3, 11), platform.python_version())),
        ("processor", _processor), ("precision", _precision), ("GPU", _gpu), ("versions", _versions),
        ("caches", _caches), ("Hub", _hub)]
    if arguments.model:
        checks.append(("model", lambda: _model(arguments.model, arguments.revision)))
    fine = True
    for name, check in checks:
        try:
            ok, found = check()
        except Exception as error:  # whatever is broken is what this command is to show
            ok, found = False, f"{type(error).__name__}: {error}"
        fine &= ok
        print(f"{'ok ' if ok else 'BAD'}  {name:<10} {found}", flush=True)
    return 0 if fine else 1


def _processor() -> tuple[bool, str]:
    from hf_gland.environment import hardware
    from hf_gland.model.cpu import use_all_cores

    threads = use_all_cores()
    return True, f"{hardware('cpu')}; {threads} thread{'' if threads == 1 else 's'} for training and prediction"


def _precision() -> tuple[bool, str]:
    import torch

    from hf_gland.model.precision import precision_name, resolve_precision

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    name = precision_name(resolve_precision(device or torch.device("cpu")))
    slow = " (no bfloat16 instructions here: emulated, it would be many times slower)" if name == "float32" else ""
    return True, f"auto is {name}{slow}"


def _gpu() -> tuple[bool, str]:
    import torch

    if not torch.accelerator.is_available():
        return True, "none; everything runs on the processor"
    kind = torch.accelerator.current_accelerator()
    named = torch.cuda.get_device_name() if torch.cuda.is_available() else str(kind)
    return True, f"{named} ({torch.accelerator.device_count()} in all)"


def _versions() -> tuple[bool, str]:
    """Installed against tested versions; another major version than the tested one is a fault."""
    from hf_gland.shipped import shipped

    tested = dict(re.findall(r"^([\w-]+)==(\S+)$", shipped("constraints.txt").read_text("utf-8"), re.MULTILINE))
    said, fine = [], True
    for name in TESTED:
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            fine &= name in OPTIONAL
            said.append(f"{name} absent" + (" (only the web demo needs it)" if name in OPTIONAL else ""))
            continue
        wanted = tested.get(name, installed)
        plain = installed.split("+")[0]
        fine &= plain.split(".")[0] == wanted.split(".")[0]
        said.append(f"{name} {installed}" + ("" if plain == wanted else f" (tested: {wanted})"))
    return fine, ", ".join(said)


def _caches() -> tuple[bool, str]:
    from huggingface_hub import constants

    folders = {"HF_HOME": Path(constants.HF_HOME), "temporary files": Path(tempfile.gettempdir()), "here": Path.cwd()}
    said, fine = [], True
    for name, folder in folders.items():
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free_gb = shutil.disk_usage(there).free / 1e9
        writable = os.access(there, os.W_OK)
        fine &= writable and free_gb >= LEAST_FREE_GB
        said.append(f"{name} {folder} {'' if writable else 'NOT WRITABLE, '}{free_gb:.0f} GB free")
    return fine, "; ".join(said)


def _hub() -> tuple[bool, str]:
    """Whether the Hub answers; a machine without it can do all but download and publish, so that is no fault."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return True, "not used (HF_HUB_OFFLINE is set)"
    try:
        get_session().get(f"{constants.ENDPOINT}/api/models", params={"limit": 1}, timeout=HUB_PATIENCE_S)
    except Exception as error:  # the client's own classes differ between versions
        why = type(error).__name__
        return True, f"{constants.ENDPOINT} does not answer ({why}): use local folders, and set HF_HUB_OFFLINE=1"
    token = "a token is there" if get_token() else "no token, so nothing can be published"
    return True, f"{constants.ENDPOINT} answers; {token}"


def _model(location: str, revision: str | None) -> tuple[bool, str]:
    import numpy as np

    from hf_gland.inference.segmenter import GlandSegmenter

    segmenter = GlandSegmenter.from_pretrained(location, revision)
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    seconds = []
    for _ in range(3):  # the first one warms up
        started = time.perf_counter()
        segmenter.predict(picture, segmenter.mpp)
        seconds.append(time.perf_counter() - started)
    size = f"{segmenter.mpp:g} µm per pixel" if segmenter.mpp else "an unknown pixel size"
    return True, f"{location}: {', '.join(segmenter.id2label.values())} at {size}; 512×512 px in {min(seconds):.2f} s"
