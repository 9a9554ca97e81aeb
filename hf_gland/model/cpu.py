"""Getting the speed out of a CPU: its memory and its cores."""

import ctypes
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def make_fast() -> None:
    """What every command does before it makes a tensor: keep freed memory, use all cores."""
    keep_freed_memory()
    use_all_cores()


def keep_freed_memory() -> bool:
    """Stop glibc from handing large blocks back to the system after each use; call once, before any tensor.

    Training on a CPU allocates the same large blocks at every step, and page faults on fresh ones were measured to
    cost up to half as much again. Returns False where the C library is not glibc, which is left as it is.
    """
    mallopt = _glibc("mallopt")
    return mallopt is not None and bool(
        mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_TOP_PAD, 2**28))


def return_freed_memory() -> bool:
    """Hand back to the system what glibc keeps of freed blocks: for a server, between one visitor's work and the next.

    Each of its threads allocates from an arena of its own, which fills with holes: after 20 answers 360 MB of 1,030 were
    measured to be free. Returns False where the C library is not glibc.
    """
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is None:
        return False
    malloc_trim(0)
    return True


def _glibc(function: str) -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL("libc.so.6"), function)
    except (OSError, AttributeError):
        return None


def use_all_cores() -> int:
    """Share the machine's cores among the processes of this run; returns the threads each one gets.

    `accelerate launch` and `torchrun` set OMP_NUM_THREADS=1 for every process, which leaves cores idle. A different
    number in HF_GLAND_THREADS wins; ValueError where that is not one.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("HF_GLAND_THREADS", str(max(cores // processes, 1)))
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(f"HF_GLAND_THREADS must be a number of threads, 1 or more; got {wanted!r}")
    torch.set_num_threads(int(wanted))
    return torch.get_num_threads()


@contextmanager
def side_by_side(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of `count` threads among which torch's threads are shared out evenly.

    Each gets the same number whatever the others do, because the last digit of a sum depends on how many add it up.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(max(threads // count, 1),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # for threads to come: the pool's have set it for these too
