"""Measure a model: `python scripts/evaluate.py --help`."""

import sys

from hf_gland.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
