"""Segment pictures: `python scripts/predict.py --help`."""

import sys

from hf_gland.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("predict"))
