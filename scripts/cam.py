"""Class activation maps as a baseline: `python scripts/cam.py --help`."""

import sys

from hf_gland.cli.cam import main

if __name__ == "__main__":
    sys.exit(main())
