import os
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from processes import start

from hf_gland.model.cpu import keep_freed_memory, return_freed_memory, side_by_side, use_all_cores


def test_cores_are_shared_among_the_processes_of_a_machine(set_threads, monkeypatch):
    monkeypatch.delenv("HF_GLAND_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert use_all_cores() == torch.get_num_threads() == 6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert use_all_cores() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "40")
    assert use_all_cores() == 1


def test_a_number_in_the_environment_wins(set_threads, monkeypatch):
    monkeypatch.setenv("HF_GLAND_THREADS", "2")
    assert use_all_cores() == torch.get_num_threads() == 2


@pytest.mark.parametrize("wanted", ["two", "0", "-1", ""])
def test_anything_else_in_the_environment_is_refused(set_threads, monkeypatch, wanted):
    monkeypatch.setenv("HF_GLAND_THREADS", wanted)
    with pytest.raises(ValueError, match="HF_GLAND_THREADS"):
        use_all_cores()


@pytest.mark.parametrize(("count", "share"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_a_pool_shares_the_threads_evenly_whatever_the_others_do(set_threads, count, share):
    set_threads(4)
    met = Barrier(count)

    def one(_):
        met.wait()  # all have begun
        return torch.get_num_threads()

    with side_by_side(count) as pool:
        assert list(pool.map(one, range(count))) == [share] * count
        assert torch.get_num_threads() == 4
    with ThreadPoolExecutor(1) as new:
        assert new.submit(torch.get_num_threads).result() == torch.get_num_threads() == 4


def train_a_little():
    """Page faults of a loop that allocates and frees large blocks, once with and once without the setting."""
    import resource

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            torch.ones(4 * 2**20).mul(2)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    usual = faults()
    set_up = keep_freed_memory()
    faults()  # the blocks that will be kept are touched for the first time
    print(set_up, usual, faults())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is a Linux C library")
def test_freed_memory_is_used_again_instead_of_faulted_in_anew():
    process = start(train_a_little)
    assert process.wait() == 0, process.stderr
    set_up, usual, kept = process.stdout.split()
    if set_up == "False":
        pytest.skip("the C library is not glibc")
    assert int(kept) * 10 < int(usual)


def leave_holes():
    """Resident pages with half of many small blocks freed, every second one, before and after they are handed back."""
    from pathlib import Path

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1])

    blocks = [bytearray(b"x" * 60_000) for _ in range(4000)]
    full = resident()
    del blocks[::2]
    freed = resident()
    print(return_freed_memory(), full, freed, resident())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is a Linux C library")
def test_what_was_freed_between_blocks_in_use_goes_back_to_the_system():
    process = start(leave_holes)
    assert process.wait() == 0, process.stderr
    returned, full, freed, after = process.stdout.split()
    if returned == "False":
        pytest.skip("the C library is not glibc")
    assert int(freed) > 0.9 * int(full)  # glibc keeps it by itself
    assert (int(freed) - int(after)) * os.sysconf("SC_PAGE_SIZE") > 0.8 * 2000 * 60_000


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
    assert return_freed_memory() is False
