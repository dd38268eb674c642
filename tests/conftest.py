"""What every test shares: property profiles, one thread, a cache of its own, the place of the data."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before torch is imported anywhere: the workers of pytest-xdist share the cores, and sums keep their order.
# An environment variable rather than torch.set_num_threads, since tests of the core must not import torch.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

# No deadline: the first call of a kernel compiles it. --hypothesis-profile=NAME chooses another profile.
settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True, print_blob=True)
settings.register_profile(
    "deep",
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("ci" if os.environ.get("CI") else "quick")

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Give each test process a cache of its own, never the user's."""
    cache = tempfile.TemporaryDirectory(prefix="proxygraph-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(cache.cleanup)
    os.environ["PROXYGRAPH_CACHE"] = cache.name


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the optional test data: PROXYGRAPH_DATA, or shared/data beside the checkout."""
    named = os.environ.get("PROXYGRAPH_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"PROXYGRAPH_DATA={named!r} is not a folder")
    pytest.skip("no test data: set PROXYGRAPH_DATA, or put it into shared/data beside the checkout")
