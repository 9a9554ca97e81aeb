import itertools
import shutil
import subprocess
import sys

import httpx
import pytest
from browser_tools import visit
from ports import free_port
from space_tools import SPACE_APP
from test_pictures import bad_files

from hf_gland.hub.space_repo import stage_space

ROOT = SPACE_APP.parent
pytestmark = pytest.mark.browser


def tiny_model(folder):
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

    torch.manual_seed(0)
    config = SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=16,
                             num_attention_heads=[1, 1, 2, 2], id2label={0: "background", 1: "gland"},
                             label2id={"background": 0, "gland": 1})
    model = SegformerForSemanticSegmentation(config)
    model.config.mpp = 0.5
    model.save_pretrained(folder)
    SegformerImageProcessorPil().save_pretrained(folder)


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_published_folder_starts_on_its_own_and_cleans_up_after_itself(chromium, tmp_path):
    """What `scripts/publish.py space` pushes, in a folder by itself, without the training code that it has no use for."""
    space, temporary = tmp_path / "space", tmp_path / "temporary"
    space.mkdir()
    stage_space(SPACE_APP, space, "me/gland-demo", templates=ROOT / "hub_cards")
    shutil.rmtree(space / "hf_gland" / "train")
    temporary.mkdir()
    tiny_model(space / "runs" / "demo" / "run" / "model")  # where the README's first command leaves one
    before = sorted(path for path in space.rglob("*") if "__pycache__" not in path.parts)
    port = free_port()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(temporary), "HF_HUB_OFFLINE": "1",
                   "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=space, env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Running on local URL" in line:
                break
        assert process.poll() is None, "".join(lines)
        with visit(chromium, f"http://127.0.0.1:{port}") as page:
            assert "model: demo/run/model" in page.inner_text("#header")
            page.click("#segment-examples [data-example='0']")
            page.wait_for_selector("#segment-stage [data-state=result]")
            (tmp_path / "bad").mkdir()
            for path, words in itertools.islice(bad_files(tmp_path / "bad"), 4):
                page.set_input_files("#segment-drop input[type=file]", str(path))
                page.wait_for_selector(f"#segment-status [role=alert]:has-text('{words}')")
        for name in ("../../evil.png", "..\\evil.png", "/evil.png"):
            httpx.post(f"http://127.0.0.1:{port}/gradio_api/upload", files={"files": (name, b"x")},
                       timeout=120).raise_for_status()
        (own,) = temporary.glob("hf-gland-space-*")
        # torch and gradio make empty cache folders of their own; every file lies in the demo's
        assert all(own in path.parents for path in files_below(temporary))
        assert len(list(own.rglob("*evil.png"))) >= 1
        assert list(tmp_path.glob("*evil*")) == []
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert not own.exists()
    assert files_below(temporary) == []
    assert sorted(path for path in space.rglob("*") if "__pycache__" not in path.parts) == before
