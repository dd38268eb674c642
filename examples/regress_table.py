"""Find a formula for the columns of a table: here Kepler's third law, from noisy measurements.

    python examples/regress_table.py
    python examples/regress_table.py --csv your.csv --target column --seconds 60

The same from the shell, with all files of a run: ``python -m proxygraph.evolve your.csv --target column``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from proxygraph import SymbolicRegressor  # pip install 'proxygraph[sklearn]'


def planets(n: int = 300) -> pd.DataFrame:
    """Return made-up planets: the year follows from orbit and star, with an error of one percent."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "orbit": rng.uniform(0.2, 10, n),  # astronomical units
            "star_mass": rng.uniform(0.3, 3, n),  # suns
            "radius": rng.uniform(0.3, 12, n),  # earths; has nothing to do with it
            "eccentricity": rng.uniform(0, 0.5, n),  # nor has this
        }
    )
    table["year"] = np.sqrt(table["orbit"] ** 3 / table["star_mass"]) * rng.normal(1, 0.01, n)
    return table


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--csv", type=Path, help="a table of numbers with a header")
    parser.add_argument("--target", default="year", help="column to predict")
    parser.add_argument("--seconds", type=float, default=20, help="of the search")
    parser.add_argument("--generations", type=int, help="end after so many, at the latest")
    given = parser.parse_args()

    table = pd.read_csv(given.csv) if given.csv else planets()
    train = table.sample(frac=0.75, random_state=0)
    test = table.drop(train.index)
    model = SymbolicRegressor(time_budget=given.seconds, generations=given.generations, random_state=0)
    model.fit(train.drop(columns=given.target), train[given.target])

    front = pd.DataFrame(model.front_)
    print("every trade-off of size and fit that was found:")
    print(front[["size", "score", "formula"]].to_string(index=False, max_colwidth=80))
    print("\nchosen   ", model.formula())
    # every method takes an index of the front: the smallest formula that is nearly as good
    simple = int(np.argmax(front["score"] > front["score"].max() - 0.001))
    print("simple   ", model.formula(simple))
    print("LaTeX    ", model.latex(simple))
    print("sympy    ", model.sympy(simple))
    score = model.score(test.drop(columns=given.target), test[given.target])
    print(f"R² on {len(test)} rows that it has not seen: {score:.5f}")

    # predict() and a file of its own that needs numpy only: print(model.python())
    print("\nfirst predictions:", np.round(model.predict(test.drop(columns=given.target))[:4], 3))


if __name__ == "__main__":
    main()
