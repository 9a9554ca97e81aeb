"""Folders in which repositories are put together."""

import subprocess
import sys
import tempfile

from hf_gland.hub.staging import place, staging_folder


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


def test_a_dry_runs_files_are_its_own(tmp_path):
    (tmp_path / "app.py").write_text("as it was")
    (tmp_path / "linked.py").symlink_to("app.py")
    with staging_folder(tmp_path / "out") as folder:
        place(tmp_path / "app.py", folder / "app.py")
        place(tmp_path / "linked.py", folder / "deeper" / "linked.py")
    for path in (tmp_path / "out" / "app.py", tmp_path / "out" / "deeper" / "linked.py"):
        assert path.read_text() == "as it was"
        path.write_text("changed")
    assert (tmp_path / "app.py").read_text() == "as it was"
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["app.py", "deeper", "linked.py"]
