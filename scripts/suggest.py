"""Where the next outline helps most: `python scripts/suggest.py --help`."""

import sys

from hf_gland.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("suggest"))
