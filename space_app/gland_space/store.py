"""Results kept in memory between a visitor's clicks: bounded, short-lived, and found by an unguessable key alone."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ExpiredError(LookupError):
    """A result is no longer kept; the message is for the user."""

    def __init__(self, message: str = "This result is no longer kept. Load the picture again.") -> None:
        super().__init__(message)


@dataclass
class _Entry(Generic[Value]):
    value: Value
    size: int
    used: float


class Store(Generic[Value]):
    """At most `max_bytes` of values, each kept `keep_seconds` after its last use; the least recently used go first."""

    def __init__(self, max_bytes: int, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes, self._keep_seconds, self._clock = max_bytes, keep_seconds, clock
        self._entries: OrderedDict[str, _Entry[Value]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, value: Value, size: int) -> str:
        """Keep a value of `size` bytes; returns its key. The newest value is always kept, however large."""
        key = secrets.token_urlsafe(24)
        with self._lock:
            self._entries[key] = _Entry(value, size, self._clock())
            self._sweep()
        return key

    def get(self, key: str | None) -> Value:
        """The value, whose time starts anew; raises ExpiredError."""
        with self._lock:
            self._sweep()
            entry = self._entries.get(key or "")
            if entry is None:
                raise ExpiredError
            entry.used = self._clock()
            self._entries.move_to_end(key or "")
            return entry.value

    def drop(self, key: str | None) -> None:
        """Forget a value, if it is still there."""
        with self._lock:
            self._entries.pop(key or "", None)

    @property
    def bytes(self) -> int:
        """What is held now."""
        with self._lock:
            self._sweep()
            return sum(entry.size for entry in self._entries.values())

    def _sweep(self) -> None:
        now = self._clock()
        for key in [k for k, entry in self._entries.items() if now - entry.used > self._keep_seconds]:
            del self._entries[key]
        total = sum(entry.size for entry in self._entries.values())
        while total > self._max_bytes and len(self._entries) > 1:
            total -= self._entries.popitem(last=False)[1].size
