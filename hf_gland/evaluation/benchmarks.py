"""What every benchmark writes beside its figures."""

import json
import os
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from hf_gland.environment import git_commit, hardware, versions
from hf_gland.files import write_text_atomically


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    found = sorted(values)
    return {"median": statistics.median(found), "lowest": found[0], "highest": found[-1]}


def write_benchmark(path: Path, figures: Mapping[str, Any]) -> None:
    """Write the figures as JSON, with this process's command, commit, hardware, versions, threads and load; print the same.
    Raises ValueError for a figure that is no number."""
    record = {**figures, "command": shlex.join(["python", *sys.argv]), "commit": git_commit(), "hardware": hardware(),
              "versions": versions(), "threads": torch.get_num_threads(), "load_average": os.getloadavg()}
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    write_text_atomically(path, text)
    print(text)
