"""Build a dataset: `python scripts/build_dataset.py --help`."""

import sys

from hf_gland.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("build_dataset"))
