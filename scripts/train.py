"""Train a model: `python scripts/train.py --help`, in several processes `torchrun --nproc-per-node N scripts/train.py …`."""

import sys

from hf_gland.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("train"))
