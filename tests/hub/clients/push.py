"""Hand the checkpoints and the model of a run to the Hub as training does, while the Hub plays up.

usage: push.py PLAN RUN REPO HUB_FOLDER HUB_PID        (PLAN: one of the functions below)
Prints what was said and returned as one line of JSON.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from conftest import LocalHub  # noqa: E402
from huggingface_hub import HfApi  # noqa: E402

from hf_gland.hub.errors import HubError  # noqa: E402
from hf_gland.hub.pusher import CheckpointPusher  # noqa: E402

plan, run, repo, folder, pid = sys.argv[1:]
said: list[str] = []
heard = threading.Condition()


def say(line: str) -> None:
    with heard:
        said.append(line)
        heard.notify()


def wait_until_said(lines: int) -> None:
    with heard:
        heard.wait_for(lambda: len(said) >= lines)


pusher = CheckpointPusher(repo, Path(run), say=say, start_patience_s=300,
                          end_patience_s=2 if plan == "hub_that_dies" else 600)
endpoint = os.environ["HF_ENDPOINT"]


class SameHub(LocalHub):
    """The tests' Hub, seen from here."""

    def __init__(self):
        self.folder, self.port, self.endpoint = Path(folder), int(endpoint.rpartition(":")[2]), endpoint
        self.environment = {}


def checkpoint(step: int, *, bank: bool = False) -> Path:
    """A checkpoint folder that training is about to drop again."""
    made = Path(run) / "checkpoints" / f"step-{step:06d}"
    made.mkdir(parents=True)
    (made / "student.safetensors").write_bytes(b"weights after step %d" % step)
    (made / "state.json").write_text(json.dumps({"step": step}))
    if bank:
        (made / "bank.u8").write_bytes(b"pseudo-masks")
    (Path(run) / "metrics.jsonl").open("a").write(json.dumps({"step": step}) + "\n")
    return made


def hand_over(step: int, *, bank: bool = False) -> None:
    made = checkpoint(step, bank=bank)
    pusher.on_checkpoint(made)
    for file in made.iterdir():
        file.unlink()
    made.rmdir()


def wait_for_commit(title: str) -> None:
    while title not in [c.title for c in HfApi().list_repo_commits(repo)]:
        pass


def slow_hub() -> bool:
    """It holds the first checkpoint's commit until training is over and waits for what is left."""
    hub = SameHub()
    pusher.start()
    hub.requests()
    hub.faults(hold="/commit/")
    hand_over(2)
    while not any("/commit/" in request for request in hub.requests()):
        pass
    hand_over(4)
    hand_over(6)
    said.append(f"commits while it holds: {len(HfApi().list_repo_commits(repo))}")

    def let_go() -> None:
        wait_until_said(2)
        hub.faults()

    threading.Thread(target=let_go, daemon=True).start()
    return pusher.on_finish(Path(run) / "model")


def hub_that_dies() -> bool:
    """Its process is killed after the first checkpoint has arrived."""
    pusher.start()
    hand_over(2)
    wait_for_commit("Training, step 2")
    os.kill(int(pid), signal.SIGKILL)
    hand_over(4)
    wait_until_said(1)
    return pusher.on_finish(Path(run) / "model")


def hub_that_comes_late() -> bool:
    """It is not there when training starts, is when the first checkpoint is made, and the run is then interrupted."""
    os.kill(int(pid), signal.SIGKILL)
    hub = SameHub()
    pusher.start()
    hand_over(2)
    wait_until_said(2)  # the first attempt has failed
    hub.start()
    try:
        return pusher.on_interrupt()
    finally:
        hub.kill()


def refusing(status: int, start: bool = False) -> bool:
    """It answers `status` to the first two commits of the end (of the start, where it makes the repository)."""
    hub = SameHub()
    if start:
        hub.faults(refuse="/api/repos/create", status=str(status), times="1")
    pusher.start()
    if not start:
        hub.faults(refuse="/commit/", status=str(status), times="2")
    return pusher.on_finish(Path(run) / "model")


def shared_repository() -> bool:
    """Others put files into it while it holds a checkpoint with a bank; the next one has none."""
    pusher.start()
    hand_over(2, bank=True)
    wait_for_commit("Training, step 2")
    HfApi().upload_file(path_or_fileobj=b"by hand", path_in_repo="notes.txt", repo_id=repo, commit_message="Notes")
    HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo="results/old.json", repo_id=repo, commit_message="Old figures")
    hand_over(4)
    wait_for_commit("Training, step 4")
    said.append(",".join(sorted(p for p in HfApi().list_repo_files(repo) if "/" in p or p == "notes.txt")))
    return pusher.on_finish(Path(run) / "model")


try:
    arrived = {"slow_hub": slow_hub, "hub_that_dies": hub_that_dies, "hub_that_comes_late": hub_that_comes_late,
               "shared_repository": shared_repository, "busy": lambda: refusing(429),
               "overtaken": lambda: refusing(412), "busy_at_start": lambda: refusing(429, start=True),
               "start": lambda: pusher.start() is None}[plan]()
except HubError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
print(json.dumps({"arrived": arrived, "said": said, "left": (Path(run) / "push").exists()}))
