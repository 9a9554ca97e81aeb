"""The web demo: glands outlined, measured and annotated in the browser.

examples:
  python space_app/app.py                                    the model that `make demo` trained
  python space_app/app.py --model owner/name@v1 --port 8000
  HF_GLAND_MODEL=runs/first/model python space_app/app.py
"""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads: busy-waiting threads starve the web server
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio loads
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if os.environ.get("SPACES_ZERO_GPU"):
    import spaces  # noqa: F401  must come before torch

from gland_space.demo import Demo
from gland_space.model_source import MODEL_VARIABLE, find_source, load_model
from gland_space.page import build_page, launch_options
from gland_space.page_parts import examples
from gland_space.pictures import Limits
from gland_space.server import TemporaryFolder

from hf_gland.inference import ModelError
from hf_gland.model.cpu import use_all_cores

HERE = Path(__file__).resolve().parent


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    default = Limits()
    on_space = "SPACE_ID" in os.environ
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="ID_OR_FOLDER", help=f"Hub id (owner/name, owner/name@revision) or folder "
                        f"[{MODEL_VARIABLE}, else the model of `make demo`]")
    parser.add_argument("--host", default="0.0.0.0" if on_space else "127.0.0.1", help="address to listen on [%(default)s]")
    parser.add_argument("--port", type=int, default=7860, help="[%(default)s]")
    parser.add_argument("--concurrency", type=int, default=default.concurrency,
                        help="model runs at a time; one uses all cores [%(default)s]")
    parser.add_argument("--queue-size", type=int, default=default.queue_size,
                        help="requests waiting before further ones are turned away [%(default)s]")
    parser.add_argument("--max-file-mb", type=int, default=default.max_file_mb, help="[%(default)s]")
    parser.add_argument("--quota-mb", type=int, default=default.quota_mb,
                        help="files of all visitors together; the oldest go first [%(default)s]")
    parser.add_argument("--keep-minutes", type=float, default=default.keep_minutes,
                        help="how long unused results and files are kept [%(default)s]")
    parser.add_argument("--allow-host", action="append", default=None if on_space else [socket.gethostname().lower()],
                        metavar="NAME", help="answer under this name too, beside localhost, this machine's own and every "
                        "address; may be repeated, * stands for any (the default on a Space)")
    parser.add_argument("--mcp", action="store_true", help="serve the API as tools for language models too; needs "
                        "pip install 'gradio[mcp]'")
    arguments = parser.parse_args(argv)
    for name in ("concurrency", "queue_size", "max_file_mb", "quota_mb", "keep_minutes"):
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be greater than 0")
    if arguments.quota_mb < arguments.max_file_mb:
        parser.error("--quota-mb must hold one file of --max-file-mb at least")
    return arguments


def make_demo(arguments: argparse.Namespace, folder: Path) -> Demo:
    """Load the model; what goes wrong with it is shown on the page."""
    limits = Limits(max_file_mb=arguments.max_file_mb, quota_mb=arguments.quota_mb, concurrency=arguments.concurrency,
                    queue_size=arguments.queue_size, keep_minutes=arguments.keep_minutes)
    results = HERE.parent / "hub_cards" / "results"  # in the repository; a Space shows its model's own
    model, problem = None, None
    try:
        source = find_source(arguments.model, os.environ, HERE / "README.md", (Path.cwd(), HERE.parent))
        if source is not None:
            print(f"loading the model {source.location}", flush=True)
            model = load_model(source)
    except ModelError as error:
        problem = str(error)
        print(f"error: {problem}", file=sys.stderr)
    if model is None and problem is None:
        print("no model was given; the page says how to give one", flush=True)
    demo = Demo(model, problem, folder, limits, results if results.is_dir() else None)
    if found := examples():
        demo.prepare_example(found[0].path)
    return demo


def mcp_problem() -> str | None:
    """Why the MCP switch cannot work here, or None. gradio itself would start, and answer 404."""
    if find_spec("mcp") is None:
        return "--mcp needs the mcp package: pip install 'gradio[mcp]'"
    try:
        installed = version("mcp")
    except PackageNotFoundError:
        return None
    if int(installed.split(".")[0]) >= 2:
        return f"--mcp needs mcp < 2, but {installed} is installed: pip install 'gradio[mcp]'"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    if arguments.mcp and (problem := mcp_problem()):
        print(f"error: {problem}", file=sys.stderr)
        return 2
    use_all_cores()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how a Space is stopped: clean up as after Ctrl+C
    folder = TemporaryFolder(arguments.keep_minutes * 60)
    try:
        demo = make_demo(arguments, folder.path)
        hosts = None if arguments.allow_host is None or "*" in arguments.allow_host else arguments.allow_host
        page = build_page(demo)
        page.launch(server_name=arguments.host, server_port=arguments.port, mcp_server=arguments.mcp,
                    **launch_options(demo, hosts))
        demo.runner.close()
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        folder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
