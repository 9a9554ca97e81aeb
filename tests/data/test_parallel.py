import os
import threading
import time

import pytest

from hf_gland.data import parallel
from hf_gland.data.parallel import map_in_order


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)


def test_results_keep_the_order_whatever_ends_first(four_cores: None) -> None:
    def slower_first(i: int) -> int:
        time.sleep(0.002 * (20 - i))
        return 10 * i

    assert list(map_in_order(slower_first, range(20), lambda i: 1)) == [10 * i for i in range(20)]


def test_several_work_at_once_and_no_more_than_fit(four_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "MOST_VALUES", 100)
    for size, expected in ((1, 4), (40, 2), (1000, 1)):
        meeting, together, most = threading.Barrier(expected), [], []

        def work(i: int, meeting: threading.Barrier = meeting, together: list = together, most: list = most) -> None:
            together.append(i)
            most.append(len(together))
            meeting.wait(300)  # passed only if `expected` are at work at once
            together.remove(i)

        list(map_in_order(work, range(2 * expected), lambda i, size=size: size))
        assert max(most) == expected


def test_an_error_comes_in_its_place_and_ends_the_rest(four_cores: None) -> None:
    begun = []

    def work(i: int) -> int:
        begun.append(i)
        if i == 3:
            raise ValueError("three")
        return i

    results = map_in_order(work, iter(range(1000)), lambda i: 1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(begun) < 20


def test_what_is_left_half_way_stops(four_cores: None) -> None:
    read = []
    results = map_in_order(lambda i: i, (read.append(i) or i for i in range(1000)), lambda i: 1)
    assert next(results) == 0
    results.close()
    assert len(read) < 20
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor") and t.is_alive()]
