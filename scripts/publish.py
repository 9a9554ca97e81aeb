"""Publish on the Hub: `python scripts/publish.py --help`."""

import sys
from pathlib import Path

# Beside this script lies evaluate.py, which must not hide the library of that name from the metric.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from hf_gland.cli.main import run_command  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_command("publish"))
