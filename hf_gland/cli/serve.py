"""The web demo on this machine: glands outlined, measured and annotated in the browser.

  hf-gland serve --model runs/demo/run/model       http://127.0.0.1:7860
  hf-gland serve --model owner/name@v1 --port 8000

All further options are those of the demo; hf-gland serve --help-app lists them. It needs pip install 'hf_gland[space]'.
"""

import argparse
import runpy
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from hf_gland.errors import HfGlandError
from hf_gland.shipped import shipped

NEEDED = ("gradio",)


class _Parser(argparse.ArgumentParser):
    """Keeps words that it does not know as `options`: argparse.REMAINDER takes none that begin with a dash."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        known, options = self.parse_known_args(args, namespace)
        known.options = options
        return known


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--help-app", action="store_true", help="list the demo's own options")
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
