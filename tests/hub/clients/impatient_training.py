"""scripts/train.py, whose pusher gives the Hub two seconds at the end instead of ten minutes, once something went wrong."""

import sys
import threading

from hf_gland.cli.main import run_command
from hf_gland.hub.pusher import CheckpointPusher

reported = threading.Event()
report, finish = CheckpointPusher._report, CheckpointPusher.on_finish


def noting_report(self, line):
    report(self, line)
    reported.set()


def late_finish(self, model):
    reported.wait()
    return finish(self, model)


CheckpointPusher._report, CheckpointPusher.on_finish = noting_report, late_finish
CheckpointPusher.__init__.__kwdefaults__.update(start_patience_s=300.0, end_patience_s=2.0)
sys.exit(run_command("train"))
