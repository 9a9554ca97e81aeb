"""Train a model: `accelerate launch scripts/train.py --help`."""

import sys

from hf_gland.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
