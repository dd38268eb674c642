"""How fast and how exact are the vector functions: numpy and ours, data in the first-level cache.

Nanoseconds of CPU time per element on one thread; the engines take turns. Errors are in units in the last
place against the next wider type (float64, longdouble), over all signs and exponents and the ranges where
something happens; ``pow`` over the positive numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.common import Engine, arguments, measure, row, write

import numpy as np  # isort: skip

from proxygraph.kernels import vecmath  # isort: skip

SIZE, CALLS = 4096, 50
Function = Callable[..., Any]


def _sigmoid(x: Any, out: Any = None) -> Any:
    return np.divide(1, np.add(1, np.exp(-x, out=out), out=out), out=out)


FUNCTIONS: dict[str, tuple[Function, tuple[float, ...]]] = {
    name: (getattr(np, name), ()) for name in ("exp", "log", "log1p", "tanh", "sin", "cos", "sign")
}
FUNCTIONS["sigmoid"] = (_sigmoid, ())
EXPONENTS = (0.5, 1.5, 3.0, 16.0, -1.0, -2.0, -0.5, -7.5)


def sample(dtype: Any, n: int, rng: np.random.Generator) -> Any:
    """All signs, exponents and subnormals alike, and the ranges where something happens."""
    integer: Any = np.int32 if dtype == np.float32 else np.int64
    limits = np.iinfo(integer)
    span = 100.0 if dtype == np.float32 else 740.0
    turns = rng.integers(-20_000, 20_000, n) * (np.longdouble(np.pi) / 2)
    uniform = [rng.uniform(-width, width, n).astype(dtype) for width in (span, 1, 2, 12, 1e6)]
    bits = rng.integers(limits.min, limits.max, n, dtype=integer).view(dtype)
    near_one = (1 + rng.normal(size=n) / 64).astype(dtype)
    return np.concatenate([bits, *uniform, near_one, turns.astype(dtype)])


def worst(got: Any, exact: Any) -> float:
    """Return the largest error in ulp; where one side is not finite, both must be the same."""
    rounded = exact.astype(got.dtype)
    ulp = np.abs(got.astype(exact.dtype) - exact) / np.spacing(np.abs(rounded)).astype(exact.dtype)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    return float(np.where(same & ~np.isfinite(rounded), 0.0, np.where(np.isfinite(ulp), ulp, np.inf)).max())


def benchmark(
    name: str, dtype: Any, n: int, repeats: int, exponent: float | None = None
) -> list[dict[str, Any]]:
    """Return the rows of numpy and ours for one function and type."""
    rng = np.random.default_rng(0)
    wide: Any = np.float64 if dtype == np.float32 else np.longdouble
    theirs: Function = np.power if exponent is not None else FUNCTIONS[name][0]
    into = getattr(vecmath, f"{name}_into")
    more = () if exponent is None else (exponent,)
    positive = name in ("log", "pow")
    x = rng.uniform(0.1 if positive else -0.9, 4.0, SIZE).astype(dtype)
    out = np.empty_like(x)
    errors = {"numpy": 0.0, "vecmath": 0.0}
    for _ in range(n // 100_000):
        many = sample(dtype, 100_000 // 8, rng)
        many = np.abs(many) if name == "pow" else many
        got = np.empty_like(many)
        into(got, many, *more)
        with np.errstate(all="ignore"):
            exact = theirs(many.astype(wide), *(wide(e) for e in more))
            errors["vecmath"] = max(errors["vecmath"], worst(got, exact))
            errors["numpy"] = max(errors["numpy"], worst(theirs(many, *(dtype(e) for e in more)), exact))

    def repeat(function: Function, *args: Any, **options: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CALLS):
                function(*args, **options)

        return run

    engines = {
        "numpy": Engine(repeat(theirs, x, *(dtype(e) for e in more), out=out)),
        "vecmath": Engine(repeat(into, out, x, *more)),
    }
    label = name if exponent is None else f"{name} {exponent}"
    about: dict[str, Any] = {"function": label, "n_rows": SIZE, "dtype": np.dtype(dtype).name}
    return [
        row(engine, times, unit="ns/element", scale=1e9 / (SIZE * CALLS), max_ulp=errors[engine], **about)
        for engine, times in measure(engines, repeats).items()
    ]


def main() -> None:
    """Run, print a table, write the JSON."""
    options = arguments(__doc__)
    n, repeats = (100_000, 15) if options.quick else (4_000_000, 41)
    rows = []
    print(
        f"{'function':12}{'dtype':10}{'engine':10}{'median':>9}{'p10':>9}{'p90':>9}  unit      {'max ulp':>8}"
    )
    cases: list[tuple[str, float | None]] = [(name, None) for name in FUNCTIONS]
    cases += [("pow", exponent) for exponent in EXPONENTS]
    for name, exponent in cases:
        for dtype in (np.float32, np.float64):
            scale = 1 if exponent is None else 10
            for one in benchmark(name, dtype, max(n // scale, 100_000), repeats, exponent):
                rows.append(one)
                numbers = "".join(f"{one[key]:9.3f}" for key in ("median", "p10", "p90"))
                about = f"{one['function']:12}{one['dtype']:10}{one['engine']:10}"
                print(f"{about}{numbers}  {one['unit']}  {one['max_ulp']:8.3f}", flush=True)
    write(options.json, "vecmath", rows)


if __name__ == "__main__":
    main()
