"""Where a result comes from: the commit of the code and the machine it ran on."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

import hf_gland

# Keys of torch.cpu.get_capabilities, and what the instructions are called.
INSTRUCTIONS = {"avx2": "AVX2", "avx512_f": "AVX-512", "avx512_bf16": "AVX-512-BF16", "amx_bf16": "AMX-BF16",
                "neon": "NEON", "sve": "SVE", "bf16": "BF16"}


def git_commit() -> str:
    """The commit of this code (`-dirty`: tracked files differ), or `hf_gland-<version>` if installed."""
    package = Path(hf_gland.__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # fails in a repository that only surrounds us
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"hf_gland-{hf_gland.__version__}"


def hardware(device: str | None = None) -> str:
    """What a run used, in words: the GPU's name, or the CPU's model, its instructions that matter for speed, and the cores
    this process may use, as in "AMD EPYC (family 25, model 1; AVX2), 2 cores".

    `device`: a torch device ("cpu", "cuda", "cuda:1"); by default the GPU if there is one.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda":
        return torch.cuda.get_device_name(chosen)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name, details = _processor()
    has = torch.cpu.get_capabilities()
    details += [", ".join(word for key, word in INSTRUCTIONS.items() if has.get(key))]
    return f"{name} ({'; '.join(filter(None, details))}), {cores} core{'' if cores == 1 else 's'}"


def versions() -> dict[str, str]:
    """The versions of the libraries that figures and speed depend on."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers")}


def _processor() -> tuple[str, list[str]]:
    """The processor's name and, where Linux tells them, its family and model number, which cloud providers leave in when
    they shorten the name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        found = dict(re.findall(r"^(model name|cpu family|model)\s*:\s*(.+)$", text, re.MULTILINE))
    except OSError:
        found = {}
    name = found.get("model name", "").strip() or platform.processor() or platform.machine()
    return name, [f"family {found['cpu family']}, model {found['model']}"] if {"cpu family", "model"} <= set(found) else []
