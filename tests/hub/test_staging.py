"""Folders in which repositories are put together."""

import subprocess
import sys
import tempfile

from hf_gland.hub.staging import staging_folder


def test_what_a_killed_publication_left_is_removed_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os; print(os.getpid())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    abandoned = tmp_path / f"hf_gland-publish-{child.stdout.strip()}-abc"
    abandoned.mkdir()
    (abandoned / "model.safetensors").write_bytes(b"half")
    other = tmp_path / "hf_gland-publish-notes"  # no process id in its name
    other.mkdir()
    with staging_folder(None) as folder:
        assert folder.is_dir()
        with staging_folder(None) as second:
            assert second.is_dir()
        assert folder.is_dir(), "the folder of a living process is left alone"
    assert [p.name for p in tmp_path.iterdir()] == [other.name]
