import threading

import pytest
from gland_space.demo import ExpiredError, Store


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_value_is_found_by_its_key_alone():
    store = Store(100, 60)
    keys = [store.put(value, 1) for value in "abc"]
    assert len(set(keys)) == 3
    assert min(map(len, keys)) >= 32
    assert [store.get(key) for key in keys] == ["a", "b", "c"]
    for wrong in ("", None, "0", keys[0][:-1]):
        with pytest.raises(ExpiredError, match="no longer kept"):
            store.get(wrong)


def test_the_least_recently_used_go_first_and_the_newest_always_stays():
    store = Store(100, 60)
    first, second = store.put("a", 50), store.put("b", 50)
    store.get(first)
    third = store.put("c", 50)
    assert store.get(first) + store.get(third) == "ac"
    with pytest.raises(ExpiredError):
        store.get(second)
    assert store.bytes == 100
    huge = store.put("huge", 1000)
    assert store.get(huge) == "huge"
    assert store.bytes == 1000


def test_values_expire_after_their_last_use():
    clock = Clock()
    store = Store(100, 60, clock)
    key = store.put("a", 1)
    clock.now = 50
    assert store.get(key) == "a"
    clock.now = 105
    assert store.bytes == 1
    clock.now = 111
    assert store.bytes == 0
    with pytest.raises(ExpiredError):
        store.get(key)


def test_dropping_forgets_and_many_threads_may_use_it():
    store = Store(10**6, 60)
    failures = []

    def visitor(name):
        for number in range(200):
            key = store.put((name, number), 10)
            if store.get(key) != (name, number):
                failures.append(key)
            store.drop(key)

    threads = [threading.Thread(target=visitor, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.bytes == 0
