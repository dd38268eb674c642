"""sympy's simplify in its own process: shorter formulas, limits that hold, nothing left running."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxygraph import sympy_worker
from proxygraph.errors import BackendUnavailable
from proxygraph.infix import parse, text
from proxygraph.ops import Op, register, unregister
from proxygraph.sympy_worker import SympyCounts, SympyWorker

GENEROUS_S = 60.0  # shared machines: only the tests of limits set short ones

# a worker whose simplification never ends if the formula has the leaf zen, and holds the interpreter's lock
STUCK = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from proxygraph import sympy_worker
simplest = sympy_worker.simplest
sympy_worker.simplest = lambda dag: sum(iter(int, 1)) if "zen" in dag.leaves else simplest(dag)
sympy_worker.serve()
"""


@pytest.fixture(scope="module")
def worker():
    with SympyWorker(GENEROUS_S) as worker:
        yield worker


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # an orphan that has ended may wait for an init that never asks
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("square(sin(zen)) + square(cos(zen)) + jacov", "1 + jacov"),
        ("exp(log(params)) * zen / zen", "params"),
        ("sum(sum((w*g + w*g)/w))", "sum(sum(2 * g))"),
        ("sum(sqrt(square(sum(abs(w))))) + zen", "zen + sum(sum(abs(w)))"),
        ("0.1*zen + 0.2*zen + 0.3*jacov - 0.3*jacov", "0.30000000000000004 * zen"),
    ],
)
def test_shorter_formulas(worker, formula, expected):
    dag = parse(formula)
    found = worker.simplified(dag)
    assert found is not None
    assert text(found) == expected
    assert found.size < dag.size


@pytest.mark.parametrize(
    "formula", ["zen", "sum(sum(abs(g * w)))", "log(zen) + jacov", "0.1", "sum(mean(w - w)) + zen"]
)
def test_nothing_shorter(worker, formula):
    before = worker.counts.unchanged + worker.counts.failed
    assert worker.simplified(parse(formula)) is None
    assert worker.counts.unchanged + worker.counts.failed == before + 1


def test_parts_keep_their_axis(worker):
    part = parse("w * g / g", root_axis="element")
    found = worker.simplified(part)
    assert text(found) == "w"
    assert found.axes[-1] == "element"
    # macs is shorter, but on the layer axis
    assert worker.simplified(parse("w - w + macs", root_axis="element")) is None


def test_an_endless_simplification_is_killed(monkeypatch):
    monkeypatch.setattr(sympy_worker, "_BOOT", STUCK)
    with SympyWorker(GENEROUS_S) as worker:
        assert text(worker.simplified(parse("jacov * swap / swap"))) == "jacov"  # started
        pid = worker._process.pid
        start = time.monotonic()
        assert worker.simplified(parse("zen * swap / swap"), timeout_s=0.3) is None
        assert time.monotonic() - start < 10
        assert not alive(pid)
        assert text(worker.simplified(parse("jacov * swap / swap"))) == "jacov"
        assert worker.counts == SympyCounts(asked=3, shorter=2, timeouts=1)


def test_the_real_simplify_is_killed():
    # some seconds of sympy, measured; a few milliseconds are allowed
    formula = (
        "sign(log(tanh(cos(latency_ms + n_layers)))) / (sin(params*zen) + cos(zen/params) + tanh(zen))**4"
    )
    with SympyWorker(GENEROUS_S) as worker:
        worker.simplified(parse("zen"))
        assert worker.simplified(parse(formula), timeout_s=0.01) is None
        assert worker.counts == SympyCounts(asked=2, unchanged=1, timeouts=1)
        assert worker._process is None


def test_a_dead_worker_costs_its_current_task():
    with SympyWorker(GENEROUS_S) as worker:
        worker.simplified(parse("zen"))
        worker._process.kill()
        worker._process.wait()
        assert worker.simplified(parse("zen * swap / swap")) is None
        assert text(worker.simplified(parse("zen * swap / swap"))) == "zen"
        assert worker.counts == SympyCounts(asked=3, shorter=1, unchanged=1, failed=1)


def test_a_worker_that_cannot_start(monkeypatch):
    monkeypatch.setattr(sympy_worker, "_BOOT", "raise SystemExit(3)")
    with SympyWorker() as worker, pytest.raises(BackendUnavailable, match="did not start: it ended"):
        worker.simplified(parse("zen"))
    boot = "import sys; sys.modules['sympy'] = None\nfrom proxygraph.sympy_worker import serve; serve()"
    monkeypatch.setattr(
        sympy_worker,
        "_BOOT",
        f"import json; sys = __import__('sys'); sys.path[:] = json.loads(sys.argv[1])\n{boot}",
    )
    with (
        SympyWorker() as worker,
        pytest.raises(BackendUnavailable, match="sympy halted"),
    ):
        worker.simplified(parse("zen"))


def test_a_prepared_worker_is_the_one_that_answers():
    with SympyWorker(timeout_s=60) as worker:
        worker.prepare()
        process = worker._process
        assert process is not None
        worker.prepare()
        assert text(worker.simplified(parse("params + params - params"))) == "params"
        assert worker._process is process
    assert process.poll() is not None


def test_threads_share_a_worker(worker):
    dags = [parse(f"{n} * zen * swap / swap") for n in range(2, 10)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(worker.simplified, dags))
    assert [text(dag) for dag in found] == [f"{n} * zen" for n in range(2, 10)]


def test_user_operators_without_code(worker):
    register(
        Op(
            "softsign",
            1,
            "elementwise",
            lambda np, a: a / (1 + abs(a)),
            sympy=lambda sp, a: a / (1 + sp.Abs(a)),
        )
    )
    register(Op("hypot_", 2, "elementwise", lambda np, a, b: np.hypot(a, b), call="hypot", commutative=True))
    register(Op("spread", 1, "reduction", lambda np, v, count: np.ptp(v), nonneg="always"))
    try:
        found = worker.simplified(
            parse("sqrt(square(sum(spread(softsign(w * g / g))))) + hypot(zen, jacov * 2 / 2)")
        )
        assert text(found) == "hypot(zen, jacov) + sum(spread(softsign(w)))"
    finally:
        for name in ("softsign", "hypot_", "spread"):
            unregister(name)
    # the next question does not know them any more
    assert text(worker.simplified(parse("zen * swap / swap"))) == "zen"


def test_the_calling_process_stays_clean():
    code = """
        import sys
        from proxygraph.infix import parse, text
        from proxygraph.sympy_worker import simplified
        print(text(simplified(parse("zen * swap / swap"), 60)), "sympy" in sys.modules, flush=True)
        from proxygraph import sympy_worker
        print(sympy_worker._SHARED._process.pid)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    answer, pid = done.stdout.split("\n")[:2]
    assert answer == "zen False"
    assert not alive(int(pid))  # ended at exit
    assert done.stderr == ""


def test_a_worker_outlives_neither_its_parent_nor_its_limit():
    code = """
        import os, signal
        from proxygraph.infix import parse
        from proxygraph.sympy_worker import SympyWorker
        worker = SympyWorker()
        worker.simplified(parse("zen"), 60)
        print(worker._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while alive(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(done.stdout))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_worker():
    with SympyWorker(GENEROUS_S) as worker:
        worker.simplified(parse("zen"))
        pid = worker._process.pid
        queue = multiprocessing.get_context("fork").SimpleQueue()

        def child() -> None:
            found = worker.simplified(parse("zen * swap / swap"))
            queue.put((text(found), worker._process.pid))
            worker.close()

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(120)
        assert process.exitcode == 0
        answer, other = queue.get()
        assert answer == "zen"
        assert other != pid
        assert alive(pid)
        assert text(worker.simplified(parse("jacov * swap / swap"))) == "jacov"


def test_closing_waits_for_the_question_in_hand():
    with SympyWorker(GENEROUS_S) as worker:
        found = []
        thread = threading.Thread(target=lambda: found.append(worker.simplified(parse("zen * swap / swap"))))
        thread.start()
        while not worker.counts.asked:
            time.sleep(0.001)
        worker.close()
        thread.join()
        assert text(found[0]) == "zen"
        assert worker._process is None
