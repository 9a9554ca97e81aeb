"""When a run is to save its state and end: on Ctrl-C, on SIGTERM, and when the launcher that started it is gone."""

import os
import signal
from types import FrameType, TracebackType

# Each is set by a launcher alone: `accelerate launch`, `torchrun`.
LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")


class StopRequests:
    """As a context manager, collects Ctrl-C and SIGTERM instead of dying of them in the middle of a step; a second one
    kills. `due` says whether the run is to stop, `reason` why, where nobody asked for it.

    A launcher that gets SIGTERM may die without telling its processes, which would train on with nobody to stop them. A
    process that no launcher started is left to outlive its parent, such as a shell that is closed.
    """

    def __init__(self) -> None:
        self._launcher = os.getppid() if any(name in os.environ for name in LAUNCHED) else None
        self._received = False
        self._previous = {number: signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    @property
    def due(self) -> bool:
        return self._received or bool(self.reason)

    @property
    def reason(self) -> str:
        return "" if self._launcher in (None, os.getppid()) else ", as its launcher is gone"

    def __enter__(self) -> "StopRequests":
        self._previous = {number: signal.signal(number, self._note) for number in self._previous}  # type: ignore[misc]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._received = True
        signal.signal(number, signal.SIG_DFL)
        os.write(2, b"\nfinishing the step, then saving (again to stop at once)\n")
