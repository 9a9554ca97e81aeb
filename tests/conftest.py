"""Shared by all tests: one thread, a cache that goes away, and tiny datasets."""

import os
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

# Read when torch and datasets are imported, so set before any test module is.
_CACHE = tempfile.TemporaryDirectory(prefix="hf_gland-tests-")
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", HF_GLAND_THREADS="1", HF_DATASETS_CACHE=_CACHE.name,
                  HF_HUB_DISABLE_TELEMETRY="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1", HF_UPDATE_DOWNLOAD_COUNTS="0")
for _name in ("NO_PROXY", "no_proxy"):  # the servers of the tests are on this machine
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1", "localhost")))

# The same examples on every machine, and no judgement about its speed. HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("same", derandomize=True, database=None, deadline=None,
                          suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """A dataset folder of 6 training and 2 validation images, two classes."""
    from tiny import write_dataset

    return write_dataset(tmp_path_factory.mktemp("data") / "two_classes")


@pytest.fixture(scope="session")
def tiny_dataset_3(tmp_path_factory):
    """The same with three classes."""
    from tiny import write_dataset

    return write_dataset(tmp_path_factory.mktemp("data") / "three_classes", num_classes=3)


@pytest.fixture
def set_threads():
    """torch.set_num_threads; the number of before comes back after the test."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Undo `file_size_limit` as soon as the test's body ends, before pytest writes on: its own output may be a file."""
    if resource is None:
        return (yield)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        return (yield)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def file_size_limit() -> Callable[[int], None]:
    """`file_size_limit(num_bytes)`: from now on no file can grow beyond that, as if the disk were full."""
    if resource is None:
        pytest.skip("file size limits need the resource module")
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    return lambda num_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, most))
