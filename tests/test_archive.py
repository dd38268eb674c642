"""The hall of fame, and who breeds and who stays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.archive import HallOfFame, Individual
from proxygraph.dag import Dag, Node
from proxygraph.infix import parse
from proxygraph.selection import survivors, tournament


def one(size: int, fitness: float, start: float = 0.5) -> Individual:
    """A formula of some size; `start` tells those of one size apart."""
    nodes = [Node("leaf", "params"), Node("const", value=start), Node("op", "add", (0, 1))]
    nodes += [Node("op", "tanh", (i,)) for i in range(2, size - 1)]
    return Individual(Dag(nodes), fitness)


people = st.builds(
    one, st.integers(3, 6), st.integers(0, 12).map(lambda n: n / 12), st.integers(1, 9).map(float)
)
# a formula has one fitness: the search never scores a key twice
crowds = st.lists(people, max_size=30, unique_by=lambda i: i.dag.key)


def test_size():
    assert [one(n, 0.1).size for n in (3, 4, 7)] == [3, 4, 7]


@given(crowds, st.integers(0, 30))
def test_the_best_of_every_size_are_kept(crowd, cut):
    first, second = crowd[:cut], crowd[cut:]
    hall = HallOfFame(keep=2).updated(first).updated(second)
    for size in range(3, 7):
        best = {i.dag.key: i.fitness for i in crowd if i.size == size}
        kept = [i.fitness for i in hall.members if i.size == size]
        if len({i.fitness for i in (*first, *second) if i.size == size}) == len(best):
            assert kept == sorted(set(best.values()), reverse=True)[:2]
        assert len(kept) == len(set(kept)) <= 2
        assert max(kept, default=None) == max(best.values(), default=None)


@given(crowds)
def test_the_front_rises(crowd):
    front = HallOfFame().updated(crowd).front()
    assert [i.size for i in front] == sorted({i.size for i in front})
    assert (np.diff([i.fitness for i in front]) > 0).all()
    assert max((i.fitness for i in crowd), default=None) == max((i.fitness for i in front), default=None)
    for i in crowd:
        assert any(f.size <= i.size and f.fitness >= i.fitness for f in front)


@given(st.lists(people, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_means_nothing(crowd, random):
    unique = list({i.dag.key: i for i in crowd}.values())
    shuffled = list(unique)
    random.shuffle(shuffled)
    assert HallOfFame().updated(unique).members == HallOfFame().updated(shuffled).members


def test_a_hall_is_a_value():
    hall = HallOfFame()
    hall.updated([one(3, 0.5)])
    assert hall.members == ()
    assert hall.front() == ()


# ---- selection -------------------------------------------------------------------------------------------


def crowd_of(n: int) -> list[Individual]:
    return [one(3 + i % 5, i / n, float(i + 1)) for i in range(n)]


def test_tournaments_prefer_the_fit_and_the_small():
    rng = np.random.default_rng(0)
    crowd = crowd_of(50)
    winners = [tournament(crowd, 0.0, rng).fitness for _ in range(300)]
    assert np.mean(winners) > 0.75
    small = [tournament(crowd, 10.0, rng).size for _ in range(300)]
    assert np.mean(small) < 3.5
    assert tournament(crowd[:1], 0.0, rng) is crowd[0]


def test_more_rounds_press_harder():
    crowd = crowd_of(50)

    def mean(rounds: int) -> float:
        rng = np.random.default_rng(1)
        return float(np.mean([tournament(crowd, 0.0, rng, rounds).fitness for _ in range(500)]))

    assert mean(1) < mean(2) < mean(5) < mean(20)


def test_survivors():
    rng = np.random.default_rng(0)
    crowd = crowd_of(100)
    stay = survivors(crowd, 40, 0.0, rng)
    assert len(stay) == len({i.dag.key for i in stay}) == 40
    assert {i.fitness for i in stay} >= {i / 100 for i in range(90, 100)}  # the best quarter of 40
    assert min(i.fitness for i in stay) < 0.5  # and not only the best
    assert survivors(crowd[:5], 40, 0.0, rng) == tuple(sorted(crowd[:5], key=lambda i: -i.fitness))
    assert survivors([], 40, 0.0, rng) == ()


def test_formulas_of_equal_fitness_are_one_and_the_smallest_stays():
    crowd = [one(5, 0.5), one(3, 0.5, 2.0), one(4, 0.5), one(6, 0.7)]
    stay = survivors(crowd, 10, 0.0, np.random.default_rng(0))
    assert [(i.size, i.fitness) for i in stay] == [(6, 0.7), (3, 0.5)]


def test_the_generator_decides_alone():
    crowd = crowd_of(60)
    pick = [survivors(crowd, 20, 0.001, np.random.default_rng(3)) for _ in range(2)]
    assert pick[0] == pick[1]
    assert parse("params").size == 1
