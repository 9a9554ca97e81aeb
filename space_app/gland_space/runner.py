"""Running the model: one run at a time, on a thread of its own, with progress, and stopped when nobody wants it."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from hf_gland.model.cpu import return_freed_memory

Result = TypeVar("Result")
POLL_SECONDS = 0.2


class Cancelled(Exception):
    """The user stopped the run, or left."""


class Job:
    """One run: `stop()` ends it before the next batch of tiles, `share` is how much of it is done, 0-1."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self.share = 0.0

    def stop(self) -> None:
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def report(self, share: float) -> None:
        """Note the progress; raises Cancelled in a run that was stopped."""
        if self.stopped:
            raise Cancelled
        self.share = share


class Tickets:
    """The run that each visitor has asked for, and has not called off; visitors are told apart by their session.

    A click makes a ticket, the run that it leads to takes it, perhaps after a while in the queue. Calling off works
    at any time in between and during the run.
    """

    def __init__(self) -> None:
        self._asked: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        self._lock = threading.Lock()

    def ask(self, session: str) -> None:
        """Make a ticket; what the visitor asked for before is called off."""
        self.call_off(session)
        with self._lock:
            self._asked[session] = Job()

    def take(self, session: str) -> Job | None:
        """The job to run now, or None if it was called off meanwhile."""
        with self._lock:
            job = self._asked.pop(session, None)
            if job is not None:
                self._running[session] = job
            return job

    def done(self, session: str, job: Job) -> None:
        with self._lock:
            if self._running.get(session) is job:
                del self._running[session]

    def call_off(self, session: str) -> None:
        """Stop what the visitor asked for, waiting or running."""
        with self._lock:
            for jobs in (self._asked, self._running):
                if (job := jobs.pop(session, None)) is not None:
                    job.stop()


class Runner:
    """Threads of their own for the model, as many as runs are allowed at a time.

    Every thread that calls torch keeps a team of workers; on the web server's own threads there would be dozens.
    """

    def __init__(self, concurrency: int = 1) -> None:
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="model")

    def start(self, work: Callable[[Job], Result], job: Job) -> "Future[Result]":
        """Begin `work(job)`; it is to call `job.report` between its steps."""
        context = contextvars.copy_context()  # ZeroGPU finds the visitor's request in it

        def run() -> Result:
            job.report(0.0)
            try:
                return context.run(work, job)
            finally:
                return_freed_memory()

        return self._threads.submit(run)

    def follow(self, work: Callable[[Job], Result], job: Job | None = None) -> Iterator["float | Finished[Result]"]:
        """Run `work`, yielding its share several times a second, then the result; closing the iterator stops the run.

        Raises what `work` raises, Cancelled among it.
        """
        job = job or Job()
        future = self.start(work, job)
        try:
            while not future.done():
                wait([future], timeout=POLL_SECONDS)
                if not future.done() and not job.stopped:
                    yield job.share
            result = future.result()
            if job.stopped:  # in the last moment
                raise Cancelled
            yield Finished(result)
        finally:
            job.stop()

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """The result of a run."""

    result: Result
