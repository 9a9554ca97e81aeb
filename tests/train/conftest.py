import pytest
from tiny import tiny_settings
from training import watched_run


@pytest.fixture(scope="session")
def refined(tiny_dataset, tmp_path_factory):
    """A run with the usual settings of these tests, and what its steps used."""
    return watched_run(tmp_path_factory.mktemp("refined") / "run", tiny_settings(tiny_dataset))
