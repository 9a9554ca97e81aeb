"""A model as an ONNX file for faster CPU back-ends: `python scripts/export.py --help`."""

import sys

from hf_gland.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("export"))
