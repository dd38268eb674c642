"""Find a segmenter within a latency budget on this device, train it for a while and export it as ONNX.

Every step is a command of segspace, printed before it runs. The first search on a device measures the pieces
of the space once and keeps them in ``--table``.

    python examples/search_segmenter.py
    python examples/search_segmenter.py --max-latency-ms 3 --size 120x160 --data camvid:DIR --epochs 60
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path


def run(*words: object) -> None:
    """Run a command of segspace with this Python, shown as one types it."""
    print(f"\n$ python -m {shlex.join(map(str, words))}", flush=True)
    subprocess.run([sys.executable, "-m", *map(str, words)], check=True)


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--proxy", default="snip", help="hand-made proxy, formula, or folder of a run of evolve"
    )
    parser.add_argument(
        "--max-latency-ms", type=float, default=2.0, help="budget, on one core of this machine"
    )
    parser.add_argument("--size", default="64x96", help="height and width of the pictures")
    parser.add_argument("--trials", type=int, default=40, help="networks to score")
    parser.add_argument("--data", default="streetscenes:64x96?train=128&val=32", help="to train on")
    parser.add_argument(
        "--epochs", type=int, default=3, help="of the training: a few are a taste, not a result"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/example"), help="folder of everything")
    parser.add_argument("--table", type=Path, help="latency table; by default in the folder")
    parser.add_argument("--rounds", type=int, default=5, help="of measuring; 15 for numbers to rely on")
    parser.add_argument("--no-onnx", action="store_true", help="leave the export out")
    given = parser.parse_args()

    table = given.table or given.out / "latency.json"
    seen = ("--size", given.size)
    if not table.exists():  # the search would measure too, in more rounds and on a quiet machine only
        given.out.mkdir(parents=True, exist_ok=True)
        run("segspace.latency", "build", "--table", table, *seen, "--rounds", given.rounds, "--busy-ok")
    budget = ("--max-latency-ms", given.max_latency_ms, "--trials", given.trials)
    found = given.out / "search"
    run("segspace.search", "--proxy", given.proxy, *budget, *seen, "--table", table, "--out", found)

    chosen = json.loads((found / "result.json").read_text(encoding="utf-8"))["chosen"]
    trained = given.out / "trained"
    recipe = ("--data", given.data, *seen, "--epochs", given.epochs, "--batch", 8, "--threads", 2)
    run("segspace.train", chosen["arch"], *recipe, "--out", trained)
    run("segspace.evaluate", trained, "--data", given.data, "--pictures", 2)
    if not given.no_onnx:
        run("segspace.export", trained, "--onnx", given.out / "segmenter.onnx")


if __name__ == "__main__":
    main()
