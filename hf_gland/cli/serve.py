"""The web demo on this machine: glands outlined, measured and annotated in the browser.

  hf-gland serve --model runs/demo/run/model       http://127.0.0.1:7860
  hf-gland serve --model owner/name@v1 --port 8000

All further options are those of the demo; hf-gland serve --help-app lists them. It needs pip install 'hf_gland[space]'.
"""

import argparse
import runpy
import sys
from importlib.util import find_spec

from hf_gland.errors import HfGlandError
from hf_gland.shipped import shipped

NEEDED = ("gradio",)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--help-app", action="store_true", help="list the demo's own options")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of the demo, such as --model and --port")
    return parser


def run(arguments: argparse.Namespace) -> int:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise HfGlandError(f"the web demo needs {' and '.join(missing)}: pip install 'hf_gland[space]'")
    app = shipped("space_app")
    sys.path.insert(0, str(app))  # the demo is a program of its own, with its modules beside it
    sys.argv = [str(app / "app.py"), *(["--help"] if arguments.help_app else arguments.options)]
    try:
        runpy.run_path(str(app / "app.py"), run_name="__main__")
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0
