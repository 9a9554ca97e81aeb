import os
import tempfile
from pathlib import Path

import gradio.mcp
from gland_space.server import TemporaryFolder, new_folder, sweep


def test_old_files_and_empty_folders_go_and_young_ones_stay(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert sweep(tmp_path, 3600) == 0
    assert (tmp_path / "a" / "b" / "file").exists()
    assert (tmp_path / "empty").exists()
    assert sweep(tmp_path, -1) == 1
    assert sweep(tmp_path, -1) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_has_no_guessable_name(tmp_path):
    first, second = new_folder(tmp_path / "x"), new_folder(tmp_path / "x")
    assert first != second
    assert first.parent == tmp_path / "x"
    assert oct(first.stat().st_mode & 0o077) == "0o0"


def test_python_and_gradio_write_into_it_until_it_is_closed():
    before = (tempfile.gettempdir(), os.environ.get("GRADIO_TEMP_DIR"), gradio.mcp.DEFAULT_TEMP_DIR)
    folder = TemporaryFolder(60)
    try:
        with tempfile.NamedTemporaryFile() as file:
            assert Path(file.name).parent == folder.path
        assert os.environ["GRADIO_TEMP_DIR"] == gradio.mcp.DEFAULT_TEMP_DIR == str(folder.path)
        (folder.path / "left.txt").write_text("x")
    finally:
        folder.close()
    folder.close()
    assert not folder.path.exists()
    assert (tempfile.gettempdir(), os.environ.get("GRADIO_TEMP_DIR"), gradio.mcp.DEFAULT_TEMP_DIR) == before
