"""What every test shares: property profiles, one thread, a cache of its own, the place of the data."""

import fcntl
import itertools
import os
import shutil
from pathlib import Path
from typing import IO

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


CACHES = ROOT / ".pytest_cache" / "proxygraph"


def pytest_configure(config: pytest.Config) -> None:
    """Give each test process a cache of its own, never the user's; machine code in it stays for the next run.

    Compiling takes most of a minute. Processes never share a folder: two that compile at the same time could
    overwrite each other's machine code.
    """
    cache, lock = _own_cache()
    _clear(cache)
    os.environ["PROXYGRAPH_CACHE"] = str(cache)
    config.add_cleanup(lock.close)  # last in, first out: cleared before it is given back
    config.add_cleanup(lambda: _clear(cache))


def _own_cache() -> tuple[Path, IO[bytes]]:
    """Return the first cache folder that no other process holds, and what holds it."""
    for k in itertools.count():
        cache = CACHES / str(k)
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return cache, lock
    raise AssertionError("there is always another number")


def _clear(cache: Path) -> None:
    """Remove all but the lock and the two newest folders of machine code."""
    code = sorted(cache.glob("machine-code-*"), key=lambda folder: folder.stat().st_mtime)[-2:]
    for entry in cache.iterdir():
        if entry.is_dir() and entry not in code:
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.is_file() and entry.name != "lock":
            entry.unlink()


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
