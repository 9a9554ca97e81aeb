"""Work on images spread over the cores, in order and with a bound on memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

MOST_WORKERS = 8
MOST_VALUES = 200_000_000  # array elements held at once by all workers: an image of 8 megapixels counts 24 million

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(function: Callable[[T], R], items: Iterable[T], size: Callable[[T], int]) -> Iterator[R]:
    """`map(function, items)` in threads: compressing, distance transforms and large arrays run beside one another.

    Results come in the order of `items`, and what `function` raises comes in place of its result. `items` is read in the
    caller's thread, a few ahead of the results: `size` says how many array elements an item holds, and at most
    `MOST_VALUES` (or one item) are on their way. Stopped half-way (Ctrl-C), it waits for the items begun, not for the rest.
    """
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_WORKERS)
    pending: deque[tuple[Future[R], int]] = deque()
    held = 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                values = size(item)
                while pending and (len(pending) > workers or held + values > MOST_VALUES):
                    held -= pending[0][1]
                    yield pending.popleft()[0].result()
                pending.append((pool.submit(function, item), values))
                held += values
                del item  # so that only the workers hold it
            while pending:
                yield pending.popleft()[0].result()
        finally:
            for future, _ in pending:
                future.cancel()
