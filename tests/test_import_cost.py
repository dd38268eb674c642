"""`import proxygraph` stays cheap: it loads none of the heavy libraries."""

import subprocess
import sys

HEAVY = ("torch", "numba", "sympy", "sklearn", "optuna", "sqlalchemy")


def heavy_modules_after(statement: str) -> list[str]:
    """The heavy libraries that a fresh interpreter has loaded after this statement."""
    report = f"import sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{report}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.split()


def test_import_proxygraph_loads_nothing_heavy():
    assert heavy_modules_after("import proxygraph") == []


def test_the_check_can_fail():
    assert heavy_modules_after("import proxygraph, sympy") == ["sympy"]


def test_the_search_command_loads_its_libraries_when_it_runs():
    assert heavy_modules_after("import segspace.search.__main__") == []
