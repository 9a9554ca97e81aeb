"""scripts/train.py, whose pusher gives the Hub five seconds at the end instead of ten minutes."""

import sys

from hf_gland.cli.main import run_command
from hf_gland.hub.pusher import CheckpointPusher

CheckpointPusher.__init__.__kwdefaults__["end_patience_s"] = 5.0
sys.exit(run_command("train"))
