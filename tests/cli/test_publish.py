"""scripts/publish.py as a user starts it; what it does with a Hub is tested in tests/hub."""

import os
import subprocess
import sys
from pathlib import Path

from processes import run_script, start

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "publish.py"


def beside_the_scripts():
    """Where `python scripts/publish.py` looks for modules first."""
    sys.path.insert(0, str(SCRIPT.parent))


def test_a_dry_run_needs_neither_hub_nor_token(tmp_path):
    """Although a script named evaluate.py, which is not the library that the metric imports, lies beside this one."""
    words = ["metric", "--repo", "me/gland_segmentation", "--dry-run", str(tmp_path / "gland_segmentation")]
    process = start(run_script, "publish.py", words, beside_the_scripts,
                    environment={"HF_TOKEN": "", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")})
    assert process.wait() == 0, process.stderr
    assert process.stdout == f"written to {tmp_path / 'gland_segmentation'}; nothing was sent\n"
    assert process.stderr.splitlines()[-1] == "checking the metric and putting its repository together …"
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "gland_segmentation").iterdir()}
    assert {"README.md", "gland_segmentation.py", "evaluator.py", "index.html", "requirements.txt"} <= written.keys()
    assert 'evaluate.load("me/gland_segmentation")' in written["README.md"]


def test_a_missing_token_is_said_at_once(tmp_path):
    """Before anything slow is imported, let alone read."""
    environment = os.environ | {"HF_TOKEN": "", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-X", "importtime", str(SCRIPT), "model", str(tmp_path / "absent"), "--repo", "me/glands"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    imports = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "huggingface_hub" in imports
    assert not {"torch", "transformers", "datasets", "evaluate"} & set(imports)
    assert "error: no Hugging Face token: run `hf auth login`" in done.stderr
