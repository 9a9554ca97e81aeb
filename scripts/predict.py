"""Segment pictures: `python scripts/predict.py --help`."""

import sys

from hf_gland.cli.predict import main

if __name__ == "__main__":
    sys.exit(main())
