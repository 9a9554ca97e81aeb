"""Fit a model's confidence: `python scripts/calibrate.py --help`."""

import sys

from hf_gland.cli.calibrate import main

if __name__ == "__main__":
    sys.exit(main())
