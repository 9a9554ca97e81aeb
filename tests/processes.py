"""Run something in processes of its own without paying for the imports each time.

A fork server imports the package once and computes nothing; every process here is a fork of it, with its own
arguments, environment and output, and can be killed like any other.
"""

import contextlib
import io
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ports import free_port

from hf_gland.cli.main import run_command

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["hf_gland.train.loop", "transformers.models.segformer.modeling_segformer",
                                "transformers.models.segformer.image_processing_pil_segformer"])


@dataclass
class Running:
    """A process and the files its output goes to."""

    process: Any
    stdout_path: Path
    stderr_path: Path

    def wait(self, timeout: float | None = 600) -> int:
        """The exit status: that of the script, or minus the number of the signal that ended it."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {timeout} s\n{self.stderr}")
        return self.process.exitcode

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text()

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text()


def start(function: Callable[..., Any], *arguments: Any, environment: dict[str, str] | None = None) -> Running:
    """Call `function(*arguments)`, defined at the top of a test module, in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="process-", dir=os.environ["HF_DATASETS_CACHE"]))
    outputs = folder / "stdout", folder / "stderr"
    changed = {"OMP_NUM_THREADS": "1", "HF_GLAND_THREADS": "1", "HF_HUB_OFFLINE": "1",
               "HF_DATASETS_CACHE": os.environ["HF_DATASETS_CACHE"], **(environment or {})}
    process = _SERVER.Process(target=_call, args=(function, arguments, changed, outputs), daemon=True)
    process.start()
    return Running(process, *outputs)


def start_together(count: int, function: Callable[..., Any], *arguments: Any) -> list[Running]:
    """`count` processes of one run, with the environment that torchrun would give them."""
    port = free_port()
    return [start(function, *arguments, environment={
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}) for rank in range(count)]


def run_script(name: str, arguments: Sequence[str], prepare: Callable[[], None] | None = None) -> None:
    """`python scripts/NAME ARGUMENTS`, after `prepare()`; for use with `start`."""
    if prepare is not None:
        prepare()
    sys.argv = [str(SCRIPTS / name), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


def run_here(command: str, arguments: Sequence[object]) -> tuple[int, str, str]:
    """`hf-gland COMMAND ARGUMENTS` in the test's own process: exit status, stdout, stderr."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        status = run_command(command, [str(a) for a in arguments])
    return status, stdout.getvalue(), stderr.getvalue()


def settings_as_arguments(settings: dict[str, Any]) -> list[str]:
    """`--key value` for each setting."""
    arguments = []
    for key, value in settings.items():
        if isinstance(value, bool):
            arguments.append(f"--{key}" if value else f"--no-{key}")
        else:
            arguments += [f"--{key}", str(value)]
    return arguments


def _call(function: Callable[..., Any], arguments: tuple, environment: dict[str, str],
          outputs: tuple[Path, Path]) -> None:
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    for stream, path in zip((sys.stdout, sys.stderr), outputs, strict=True):
        stream.flush()
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    status = 0
    try:
        function(*arguments)
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
