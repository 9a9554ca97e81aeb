"""Build a dataset: `python scripts/build_dataset.py --help`."""

import sys

from hf_gland.cli.build_dataset import main

if __name__ == "__main__":
    sys.exit(main())
