"""Checkpoints to the Hub while training goes on.

A thread does the sending. Training only hands over hard links, so that neither a slow nor an absent Hub stops or slows
it; while a checkpoint is on its way, the newest one waits and those between are skipped. What failed is tried again
when training ends, and what could not be sent then is reported with the command that sends it.

During training the repository holds `last-checkpoint/` (all that --resume needs) and `training_log.jsonl`; at the end,
the model, and what others have put there. `publish model` adds the measured results and their card.
"""

import shlex
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.utils import disable_progress_bars
from tqdm import tqdm

from hf_gland.hub.errors import HubError
from hf_gland.hub.repository import (
    KEPT,
    OWN_TAG,
    check_place,
    explained,
    is_conflict,
    is_transient,
    open_repository,
    send_commit,
)
from hf_gland.hub.staging import place

CHECKPOINT_FOLDER = "last-checkpoint"
# What this package puts beside a model; all else in the repository was added by others and stays.
OWN_FOLDERS = (f"{CHECKPOINT_FOLDER}/", "results/", ".eval_results/", "media/", "student/")
CONFLICTS = 5  # commits of others that may come between before sending one parcel is given up
RETRY_S, MOST_RETRY_S = 1.0, 30.0  # first and longest pause before the end's next attempt
START_PATIENCE_S = 20.0  # for the first answer; a Hub slower than that is taken for absent
END_PATIENCE_S = 600.0  # for the model, once training is done
CARD = """\
---
library_name: transformers
pipeline_tag: image-segmentation
tags:
- {tag}
---

# {title}

{state}

Not for diagnosis, nor for any decision about a patient.
"""
IN_TRAINING = ("In training, from a few outlined glands per image: `last-checkpoint/` holds its state after {step} steps, "
               "`training_log.jsonl` every step so far.")
TRAINED = "Trained, not measured yet: figures, licence and limits follow with its publication."


@dataclass(frozen=True)
class Parcel:
    """Files to make one commit of: path in the repository, local file. `whole`: they are all that it is to hold."""

    files: dict[str, Path]
    message: str
    whole: bool
    folder: Path


class CheckpointPusher:
    """Sends the checkpoints and the model of one training run to one model repository.

    `run`: the run's folder, where what is to be sent is linked under `push/`. `say` prints a line for the user.
    """

    def __init__(self, repo: str, run: Path, *, private: bool = False, say: Callable[[str], None] | None = None,
                 start_patience_s: float = START_PATIENCE_S, end_patience_s: float = END_PATIENCE_S):
        self.repo, self.run, self.private = repo, run, private
        self.start_patience_s, self.end_patience_s = start_patience_s, end_patience_s
        self._say = say or (lambda line: tqdm.write(line, file=sys.stderr))
        self._changed = threading.Condition()
        self._waiting: Parcel | None = None
        self._unsent: Parcel | None = None
        self._busy, self._ending, self._given_up, self._parcels = False, False, False, 0
        self._said: set[str] = set()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make the repository. Raises HubError for what waiting would not mend: no token, no permission, a name taken.

        A Hub that does not answer is no error: training can start.
        """
        failed: list[HubError] = []

        def attempt() -> None:
            try:
                check_place(self.repo, "model")
                with explained(self.repo, "model"):
                    open_repository(HfApi(), self.repo, "model", self._card(IN_TRAINING.format(step=0)), revision="main",
                                    private=self.private, overwrite=False)
            except HubError as error:
                failed.append(error)

        shutil.rmtree(self.run / "push", ignore_errors=True)  # of a run that was killed
        first = threading.Thread(target=attempt, daemon=True)
        first.start()
        first.join(self.start_patience_s)
        if failed and not is_transient(failed[0].__cause__):
            raise failed[0]
        if failed or first.is_alive():
            reason = failed[0].fault if failed else f"{self.repo}: the Hub does not answer"
            self._report(f"{reason}. Training starts all the same")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def on_checkpoint(self, checkpoint: Path) -> None:
        """Take over a whole checkpoint folder (`step-000400`) and return at once; never raises for the Hub's sake."""
        step = checkpoint.name.rpartition("-")[2].lstrip("0") or "0"
        self._take(checkpoint, f"{CHECKPOINT_FOLDER}/", IN_TRAINING.format(step=step), f"Training, step {step}", whole=False)

    def on_finish(self, model: Path) -> bool:
        """Send the finished model folder, wait for it (`end_patience_s` at most), and report; True if it arrived."""
        self._take(model, "", TRAINED, "Trained model", whole=True)
        return self._end(shlex.join(["hf", "upload", self.repo, str(model), "."]))

    def on_interrupt(self) -> bool:
        """After a run that was asked to stop: try once more to send its last checkpoint, and report."""
        with self._changed:
            self._ending = True
            if self._waiting is None and not self._busy:  # else a newer one is on its way
                self._waiting, self._unsent = self._unsent, None
                self._changed.notify_all()
        return self._end("the same training command with --resume")

    def _take(self, source: Path, prefix: str, state: str, message: str, *, whole: bool) -> None:
        """Link the files of a folder aside, a card beside them, and hand them over; says so where there is no room."""
        self._parcels += 1
        folder, files = self.run / "push" / f"{self._parcels:04d}", {}
        try:
            for file in (p for p in sorted(source.rglob("*")) if p.is_file()):
                path = prefix + file.relative_to(source).as_posix()
                files[path] = folder / path
                place(file, files[path])
            log = self.run / "metrics.jsonl"
            if not whole and log.exists():  # a model has its own
                files["training_log.jsonl"] = folder / "training_log.jsonl"
                shutil.copyfile(log, files["training_log.jsonl"])  # training goes on writing to it
            files["README.md"] = folder / "README.md"
            files["README.md"].write_text(self._card(state), "utf-8")
        except OSError as error:
            self._report(f"{source}: cannot be put aside for {self.repo} ({error})")
            return
        self._hand_over(Parcel(files, message, whole, folder))

    def _end(self, remedy: str) -> bool:
        def idle() -> bool:
            return self._waiting is None and not self._busy

        self._ending, stopped = True, False
        with self._changed:
            if not idle():
                self._say(f"sending what is left to {self.repo}, for {self.end_patience_s:.0f} s at most …")
            try:
                self._changed.wait_for(idle, self.end_patience_s)
            except KeyboardInterrupt:
                stopped = True
            done = idle()
            arrived = done and self._unsent is None
        self._given_up = not done
        shutil.rmtree(self.run / "push", ignore_errors=True)
        if arrived:
            self._say(f"pushed to {self.repo}")
        else:
            why = "" if done else " (stopped)" if stopped else f" (no answer in {self.end_patience_s:.0f} s)"
            self._say(f"warning: not all was pushed to {self.repo}{why}. Nothing is lost: it is in {self.run}. Once the Hub "
                      f"can be reached, send it with: {remedy}")
        return arrived

    def _hand_over(self, parcel: Parcel) -> None:
        with self._changed:
            skipped, self._waiting = self._waiting, parcel
            self._changed.notify_all()
        if skipped is not None:
            shutil.rmtree(skipped.folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                parcel, self._waiting, self._busy = self._waiting, None, True
            assert parcel is not None
            failed = not self._attempt(parcel)
            with self._changed:
                done = [p for p in (self._unsent, None if failed else parcel) if p is not None]
                self._unsent = parcel if failed else None
                self._busy = False
                self._changed.notify_all()
            for finished in done:
                shutil.rmtree(finished.folder, ignore_errors=True)

    def _attempt(self, parcel: Parcel) -> bool:
        """Send; once training is over, try again what waiting may mend until something newer is to be sent."""
        pause = RETRY_S
        while True:
            try:
                self._send(parcel)
                return True
            except HubError as error:
                again = self._ending and is_transient(error.__cause__)
                self._report(error.fault + (". It is tried again" if again else "" if self._ending else
                             ". Training goes on, and what is missing is tried again at its end"))
                if not again:
                    return False
            except Exception as error:  # a thread that dies would leave the run waiting
                self._report(f"pushing to {self.repo} failed ({type(error).__name__}: {error})")
                return False
            with self._changed:
                if self._changed.wait_for(lambda: self._waiting is not None, pause) or self._given_up:
                    return False
            pause = min(2 * pause, MOST_RETRY_S)

    def _send(self, parcel: Parcel) -> None:
        """One commit on top of whatever the branch holds by then; others' commits in between are no obstacle."""
        for attempt in range(1, CONFLICTS + 1):
            try:
                with disable_progress_bars(), explained(self.repo, "model"):  # training's own bars are on the screen
                    api = HfApi()
                    head = open_repository(api, self.repo, "model", self._card(""), private=self.private, revision="main",
                                           overwrite=False)
                    there = set(api.list_repo_files(self.repo, revision=head)) - KEPT - set(parcel.files)
                    gone = sorted(p for p in there if p.startswith(OWN_FOLDERS if parcel.whole else f"{CHECKPOINT_FOLDER}/"))
                    send_commit(api, self.repo, "model", parcel.files, gone, parcel.message, revision="main", head=head)
                others = sorted(there - set(gone))
                if parcel.whole and others:
                    self._say(f"left as they are in {self.repo}, not from this run: {', '.join(others[:5])}"
                              + (f" and {len(others) - 5} more" if len(others) > 5 else ""))
                return
            except HubError as error:
                if attempt == CONFLICTS or not is_conflict(error.__cause__):
                    raise

    def _card(self, state: str) -> str:
        return CARD.format(tag=OWN_TAG, title=self.repo.split("/")[-1], state=state)

    def _report(self, line: str) -> None:
        if line not in self._said and not self._given_up:
            self._said.add(line)
            self._say(f"warning: {line}")
