"""sympy's ``simplify`` in a process of its own, with a hard time limit.

sympy may take hours on a formula of ten operators and cannot be interrupted from inside, so it runs in a
worker, killed when the time is up. Parent and worker exchange lines of JSON over pipes: no pickle, no text
that sympy would have to read, no operator's code (user operators are undefined functions to the worker). The
calling process never imports sympy. Whether a result is the same formula numerically, the caller must check.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

from proxygraph.dag import Dag, Node
from proxygraph.errors import BackendUnavailable, ProxyGraphError
from proxygraph.leaves import Leaf
from proxygraph.ops import BUILTIN, OPS, Op, register, unregister

START_S = 120.0
"""How long the import of sympy may take on a busy machine; not counted as time of a formula."""

SIMPLIFY_S = 2.0
"""How long one formula may take by default."""

_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from proxygraph.sympy_worker import serve
serve()
"""


@dataclass(slots=True)
class SympyCounts:
    """What became of the formulas given to a worker.

    Attributes
    ----------
    asked : int
        Formulas given; the others add up to it.
    shorter, unchanged : int
        sympy answered in time, with a smaller formula or none.
    timeouts : int
        The worker was killed.
    failed : int
        sympy raised an error, found no real formula, or the worker died.
    """

    asked: int = 0
    shorter: int = 0
    unchanged: int = 0
    timeouts: int = 0
    failed: int = 0


class SympyWorker:
    """A worker process that simplifies formulas; started when first needed, restarted after a time-out.

    Parameters
    ----------
    timeout_s : float
        Wall time one formula may take.

    Attributes
    ----------
    counts : SympyCounts

    Notes
    -----
    Threads may share a worker, they take turns; for parallel work make several. After a fork the child starts
    its own process. Which formulas run into the limit depends on the machine: a run that must be
    repeatable keeps what it accepted (a journal or checkpoint), or does without.

    Examples
    --------
    >>> from proxygraph.infix import parse, text
    >>> with SympyWorker(timeout_s=20) as worker:
    ...     print(text(worker.simplified(parse("square(sin(params)) + square(cos(params)) + zen"))))
    1 + zen
    """

    def __init__(self, timeout_s: float = SIMPLIFY_S) -> None:
        self.timeout_s = timeout_s
        self.counts = SympyCounts()
        self._forget()

    def _forget(self) -> None:
        """Start afresh; after a fork, the process and the lock belong to the parent."""
        if hasattr(self, "_process") and self._process is not None:
            self._process.returncode = 0  # not ours to wait for; else its destructor warns
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._greeted = False
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def simplified(self, dag: Dag, timeout_s: float | None = None) -> Dag | None:
        """Return what sympy makes of a formula if that has fewer nodes, else ``None``.

        Parameters
        ----------
        dag : Dag
            Any formula, or part of one.
        timeout_s : float or None
            Another limit than the worker's.

        Returns
        -------
        Dag or None
            On the same axis. Equal in real arithmetic where both are defined; *not* checked numerically.

        Raises
        ------
        BackendUnavailable
            If the worker cannot start, say because sympy is not installed.
        """
        if self._pid != os.getpid():
            self._forget()
        limit = self.timeout_s if timeout_s is None else timeout_s
        with self._lock:
            self.counts.asked += 1
            self._start()
            try:
                answer = self._ask(_encoded(dag, limit), limit)
            except TimeoutError:
                self._stop()
                self.counts.timeouts += 1
                return None
            except (OSError, EOFError):  # it died: out of memory, or killed by somebody
                self._stop()
                self.counts.failed += 1
                return None
            except BaseException:  # Ctrl-C: the answer to this question must not meet the next one
                self._stop()
                raise
            if "error" in answer:
                self.counts.failed += 1
                return None
            if answer["nodes"] is None:
                self.counts.unchanged += 1
                return None
            self.counts.shorter += 1
        return Dag([_node(row) for row in answer["nodes"]], dag.leaves, root_axis=dag.axes[-1])

    def close(self) -> None:
        """End the process; a later call starts another one."""
        if self._pid != os.getpid():
            self._forget()
        with self._lock:
            self._stop()

    def __enter__(self) -> SympyWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the process

    def prepare(self) -> None:
        """Start the process without waiting until it has loaded sympy: the first question will."""
        if self._pid != os.getpid():
            self._forget()
        with self._lock:
            self._launch()

    def _launch(self) -> None:
        if self._process is not None:
            return
        # hashes fixed: sympy's results depend on the order of its sets
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        # a process group of its own: Ctrl-C while it starts would end it
        apart: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps([p for p in sys.path if isinstance(p, str)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            **apart,
        )
        self._greeted = False
        self._lines = queue.SimpleQueue()
        assert self._process.stdout is not None
        threading.Thread(target=_forward, args=(self._process.stdout, self._lines), daemon=True).start()

    def _start(self) -> None:
        self._launch()
        if self._greeted:
            return
        try:
            hello = self._read(START_S)
        except (EOFError, TimeoutError) as error:
            self._stop()
            raise BackendUnavailable(f"the sympy worker ({sys.executable}) did not start: {error}") from None
        except BaseException:
            self._stop()
            raise
        if "error" in hello:
            self._stop()
            raise BackendUnavailable(f"the sympy worker did not start: {hello['error']}")
        self._greeted = True

    def _ask(self, question: Mapping[str, Any], limit: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        deadline = time.monotonic() + limit
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        return self._read(max(deadline - time.monotonic(), 0.0))

    def _read(self, limit: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError(f"no answer within {limit:.0f} s") from None
        if line is None:
            raise EOFError("it ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # what was not written yet cannot be flushed any more
                process.stdin.close()


def _forward(pipe: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    """Move lines from a pipe to a queue, which can be waited on with a limit on every system."""
    with pipe:
        for line in pipe:
            lines.put(line)
    lines.put(None)


_SHARED = SympyWorker()
atexit.register(_SHARED.close)


def simplified(dag: Dag, timeout_s: float = SIMPLIFY_S) -> Dag | None:
    """Return what sympy makes of a formula if that has fewer nodes and comes in time, else ``None``.

    Uses one worker for the whole process, ended at exit. See `SympyWorker.simplified`.
    """
    return _SHARED.simplified(dag, timeout_s)


# ---- messages ---


def _encoded(dag: Dag, limit: float) -> dict[str, Any]:
    """A formula as plain data; `Dag.to_json` would do for whole formulas, but not for parts."""
    own = {node.name: OPS[node.name] for node in dag.nodes if node.kind == "op" and node.name not in BUILTIN}
    return {
        "nodes": [[n.kind, n.name, n.args, n.value] for n in dag.nodes],
        "leaves": [[leaf.name, leaf.axis, leaf.sign] for leaf in dag.leaves.values()],
        "ops": [[op.name, op.arity, op.kind, op.call, op.commutative, op.nonneg] for op in own.values()],
        "axis": dag.axes[-1],
        "limit": limit,
    }


def _node(row: Sequence[Any]) -> Node:
    kind, name, args, value = row
    return Node(kind, name, tuple(args), value)


def _decoded(question: Mapping[str, Any]) -> Dag:
    leaves = {name: Leaf(name, axis, sign) for name, axis, sign in question["leaves"]}
    return Dag([_node(row) for row in question["nodes"]], leaves, root_axis=question["axis"])


@contextlib.contextmanager
def _registered(rows: Sequence[Sequence[Any]]) -> Iterator[None]:
    """Know user operators by name for one question; they have no code here."""
    try:
        for name, arity, kind, call, commutative, nonneg in rows:
            register(Op(name, arity, kind, _no_code, call=call, commutative=commutative, nonneg=nonneg))
        yield
    finally:
        for name in {row[0] for row in rows} & OPS.keys():
            unregister(name)


def _no_code(*args: Any) -> Any:
    raise AssertionError("the sympy worker computes no numbers")


# ---- in the worker ---


def serve() -> None:
    """Answer questions from stdin on stdout until stdin ends. Runs in the worker process."""
    import faulthandler
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, which ends us
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever sympy prints does not get between the answers
    try:
        import sympy  # noqa: F401
    except Exception as error:
        hello = {"error": f"{type(error).__name__}: {error}"}
    else:
        hello = {}
    for answer in _answers(hello):
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        faulthandler.cancel_dump_traceback_later()


def _answers(hello: dict[str, Any]) -> Iterator[dict[str, Any]]:
    import faulthandler

    yield hello
    for line in sys.stdin.buffer:
        question = json.loads(line)
        # should the parent die meanwhile, nobody else would end an endless simplification
        faulthandler.dump_traceback_later(question["limit"] + 30.0, exit=True)
        try:
            with _registered(question["ops"]):
                dag = simplest(_decoded(question))
        except MemoryError:
            raise  # end and be started afresh
        except Exception as error:  # sympy raises whatever its algorithms trip over
            yield {"error": f"{type(error).__name__}: {error}"}
        else:
            yield {"nodes": None if dag is None else [[n.kind, n.name, n.args, n.value] for n in dag.nodes]}


def simplest(dag: Dag) -> Dag | None:
    """Return the smallest of what sympy offers for a formula, ``None`` if that is not smaller.

    Imports sympy and has no time limit; call `simplified` instead.
    """
    import sympy as sp

    from proxygraph.symbolic import from_sympy, to_sympy

    best = dag
    expr = to_sympy(dag)
    for form in (lambda e: e, sp.simplify, sp.factor_terms):
        with contextlib.suppress(ProxyGraphError):
            found = from_sympy(form(expr), dag.leaves, root_axis=dag.axes[-1])
            best = found if found.size < best.size else best
    return None if best is dag else best
