"""scripts/publish.py as a user starts it; what it does with a Hub is tested in tests/hub."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "publish.py"


def test_a_dry_run_needs_neither_hub_nor_token(tmp_path):
    """The metric is loaded from the folder that is written; a script named evaluate.py lies beside this one."""
    environment = os.environ | {"HF_TOKEN": "", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, str(SCRIPT), "metric", "--repo", "me/gland_segmentation", "--dry-run"]
    done = subprocess.run([*command, str(tmp_path / "gland_segmentation")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"written to {tmp_path / 'gland_segmentation'}; nothing was sent\n"
    assert done.stderr.splitlines()[-1] == "checking the metric and putting its repository together …"
    # In a process of its own: evaluate keeps one package of loaded modules, wherever the first of them came from.
    use = ("import evaluate, sys; print(evaluate.load(sys.argv[1]).compute(predictions=[[[0, 1]]], "
           "references=[[[1, 1]]], bootstrap=0)['gland_iou'])")
    used = subprocess.run([sys.executable, "-c", use, str(tmp_path / "gland_segmentation")], env=environment,
                          capture_output=True, text=True)
    assert used.returncode == 0, used.stderr
    assert used.stdout.split()[-1] == "50.0"
