"""`hf-gland COMMAND`: every command of the package, and the one place where errors become messages.

A command is a module of this package with `build_parser()`, a parser made without torch so that --help is quick, and
`run(arguments)`, which does the work and returns an exit status (None: 0). INTERRUPTED, if there is one, is said on Ctrl-C.
"""

import argparse
import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import hf_gland

# Name: (module, what it is for).
COMMANDS = {
    "demo": ("demo", "synthetic tissue → sparse dataset → training → figures and pictures, in minutes on a laptop"),
    "build": ("build_dataset", "a dataset from pictures and outlines, with sparse masks"),
    "train": ("train", "a model from sparse labels"),
    "predict": ("predict", "glands of pictures: outlines for QuPath, tables, overlays"),
    "suggest": ("suggest", "what to outline next, for QuPath"),
    "export": ("export", "a model as ONNX, for faster CPU back-ends"),
    "evaluate": ("evaluate", "figures of a model on a dataset"),
    "calibrate": ("calibrate", "a model's confidence fitted to held-out patients"),
    "cam": ("cam", "masks from class activation maps, the image-level baseline"),
    "publish": ("publish", "datasets, models, the metric or the web demo on the Hub"),
    "serve": ("serve", "the web demo on this machine"),
    "doctor": ("doctor", "what this machine can do, and what is missing"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """`hf-gland`: hands over to the command that is named first; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        return run_command(COMMANDS[words[0]][0], words[1:], f"hf-gland {words[0]}")
    lines = [f"  {name:<10} {about}" for name, (_, about) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        "hf-gland", description="Gland segmentation from a few outlined glands per image.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["commands:", *lines, "", "hf-gland COMMAND --help explains one of them."]))
    parser.add_argument("--version", action="version", version=f"hf_gland {hf_gland.__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    if words:
        parser.parse_args(words)  # --help, --version, or an error that argparse reports
    parser.print_help()
    return 0


def run_command(module_name: str, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run one command module; a mistake of the user's ends as one line on stderr and status 2.

    `argv`: its words (None: those of the process). With --traceback the whole trace of an error is shown.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    interrupted = "stopped"
    try:
        command: ModuleType = importlib.import_module(f"hf_gland.cli.{module_name}")
        interrupted = getattr(command, "INTERRUPTED", interrupted)
        parser: argparse.ArgumentParser = command.build_parser()
        parser.prog = prog or parser.prog
        return command.run(parser.parse_args([word for word in words if word != "--traceback"])) or 0
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:  # HfGlandError is a ValueError; so are those of numpy, PIL and datasets
        if "--traceback" in words:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2


def own_command() -> str:
    """The command that started this process, with its launcher, as it can be given again on another machine."""
    program, launcher = sys.argv[:1], ["python"]
    if Path(sys.argv[0]).name == "__main__.py":
        program = ["-m", "hf_gland"]
    elif Path(sys.argv[0]).suffix != ".py":  # the installed command, by its full path
        program, launcher = [Path(sys.argv[0]).stem], []
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        launcher = ["accelerate", "launch"]
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = ["torchrun", "--nproc-per-node", os.environ.get("LOCAL_WORLD_SIZE", "1")]
    return shlex.join([*launcher, *program, *sys.argv[1:]])
