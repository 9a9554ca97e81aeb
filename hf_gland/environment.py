"""Where a result comes from: the commit of the code and the machine it ran on."""

import os
import platform
import re
import subprocess
from pathlib import Path

import torch

import hf_gland


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
    """What a run used, in words: the GPU's name, or the CPU's model and the cores this process may use.

    `device`: a torch device ("cpu", "cuda", "cuda:1"); by default the GPU if there is one.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda":
        return torch.cuda.get_device_name(chosen)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        named = None
    model = named.group(1).strip() if named else platform.processor() or platform.machine()
    return f"{model}, {cores} core{'' if cores == 1 else 's'}"
