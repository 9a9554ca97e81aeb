"""Train a gland segmentation model from sparse labels.

  accelerate launch scripts/train.py --config bench --dataset DATASET --out runs/first
  accelerate launch scripts/train.py --config bench --dataset DATASET --out runs/first --resume
  torchrun --nproc-per-node 2 scripts/train.py --config bench --dataset DATASET --out runs/two

--config names a .toml or .json file of settings, or a recipe that ships with the package; every setting can be given
as --key value as well, by its short name or its place, with dashes or underscores (--threshold_start, --threshold-start,
--method.threshold.start), and wins over the file. RUN/model is a plain transformers repository when it is done.
"""

import argparse
import shlex
import sys
from pathlib import Path

from hf_gland.config import Parser, add_settings, config_from_arguments, recipe_name, recipe_names
from hf_gland.environment import hardware
from hf_gland.hub.errors import HubError
from hf_gland.hub.pusher import CheckpointPusher
from hf_gland.model.cpu import keep_freed_memory, use_all_cores
from hf_gland.model.precision import precision_in_words
from hf_gland.train.accelerator import make_accelerator
from hf_gland.train.checkpoint import CheckpointError
from hf_gland.train.loop import Interrupted, train


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE_OR_RECIPE",
                        help=f"settings to start from ({', '.join(recipe_names())})")
    parser.add_argument("--out", required=True, metavar="RUN", type=Path,
                        help="folder for checkpoints, logs and the model")
    parser.add_argument("--resume", action="store_true", help="continue RUN from its last checkpoint")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME",
                        help="send checkpoints and the model to this Hub repository while training goes on; a slow or "
                        "absent Hub never stops a run")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    add_settings(parser)
    arguments = parser.parse_args()
    pusher: CheckpointPusher | None = None
    try:
        keep_freed_memory()
        use_all_cores()
        config = config_from_arguments(arguments, arguments.config)
        accelerator = make_accelerator(config, arguments.out)
        if accelerator.is_main_process:
            print(f"training on {hardware(str(accelerator.device))}, in "
                  f"{precision_in_words(accelerator.device, config.optim.mixed_precision)}", flush=True)
        note = {"command": shlex.join(["accelerate", "launch", *sys.argv]),
                "recipe": recipe_name(arguments.config)}
        if arguments.push_to_hub and accelerator.is_main_process:
            pusher = CheckpointPusher(arguments.push_to_hub, arguments.out, private=arguments.private)
            pusher.start()
        folder = train(config, arguments.out, accelerator, resume=arguments.resume, note=note,
                       on_checkpoint=pusher.on_checkpoint if pusher else None)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        if pusher:
            pusher.on_interrupt()
        return 130
    except KeyboardInterrupt:
        print("stopped outside the steps; nothing was saved since the last checkpoint", file=sys.stderr)
        return 130
    except (CheckpointError, HubError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if accelerator.is_main_process:
        print(f"model written to {folder}")
    if pusher:
        pusher.on_finish(folder)
    return 0
