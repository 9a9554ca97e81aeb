import os
import signal
from pathlib import Path

import pytest
from processes import start

from hf_gland.locks import LockedError, only_writer


def hold(folder, then):
    """In a process of its own: take the lock, say so, and end in some way."""
    with only_writer(Path(folder)):
        (Path(folder) / "held").touch()
        if then == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if then == "waiting":
            signal.pause()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path):
    with only_writer(tmp_path):
        second = start(hold, tmp_path, "nothing")
        assert second.wait() == 1
        assert not (tmp_path / "held").exists()
        message = second.stderr.splitlines()[-1]
        assert f"LockedError: {tmp_path}: process {os.getpid()} on " in message
        assert "started 20" in message
        assert message.endswith("is writing there. Wait for it to end, or give another folder")
    assert list(tmp_path.iterdir()) == []
    assert start(hold, tmp_path, "nothing").wait() == 0


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    assert start(hold, tmp_path, "killed").wait() == -signal.SIGKILL
    assert (tmp_path / ".lock").exists()
    with only_writer(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()


def test_this_process_is_refused_while_another_lives(tmp_path):
    other = start(hold, tmp_path, "waiting")
    while not (tmp_path / "held").exists():
        assert other.process.is_alive(), other.stderr
    with pytest.raises(LockedError, match=f"process {other.process.pid} on "), only_writer(tmp_path):
        pass
    os.kill(other.process.pid, signal.SIGKILL)
    other.wait()
    with only_writer(tmp_path):
        pass


def test_errors_inside_let_go_of_it(tmp_path):
    with pytest.raises(KeyError), only_writer(tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
