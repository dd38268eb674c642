"""The hall of fame, and who breeds and who stays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proxygraph.archive import HallOfFame, Individual
from proxygraph.dag import Dag, Node
from proxygraph.selection import rank_within, representatives, survivors


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


@st.composite
def pools(draw: st.DrawFn) -> tuple[np.ndarray, ...]:
    """Fitness, size, code and key of a pool; one order of the rows has one fitness, and keys are unique."""
    n = draw(st.integers(0, 30))
    codes = draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
    of_code = draw(st.lists(st.integers(0, 4).map(lambda k: k / 4), min_size=9, max_size=9))
    sizes = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    keys = draw(st.lists(st.integers(1, 2**64 - 1), min_size=n, max_size=n, unique=True))
    fitness = np.array([of_code[code] for code in codes], float)
    return fitness, np.array(sizes, np.int32), np.array(codes, np.uint64), np.array(keys, np.uint64)


@given(pools())
def test_the_smallest_of_every_fitness_represents_it(pool):
    fitness, size, _, key = pool
    chosen = representatives(*pool)
    assert chosen.tolist() == sorted(chosen.tolist())
    smallest: dict[float, tuple[int, int]] = {}
    for one in zip(fitness.tolist(), size.tolist(), key.tolist(), strict=True):
        smallest[one[0]] = min(smallest.get(one[0], one[1:]), one[1:])
    found = {fitness[i]: (size[i], key[i]) for i in chosen}
    assert len(found) == len(chosen)
    assert found == smallest


@given(pools(), st.randoms(use_true_random=False))
def test_the_order_of_the_pool_means_nothing(pool, random):
    order = list(range(len(pool[0])))
    random.shuffle(order)
    shuffled = [array[order] for array in pool]
    key = pool[3]
    assert set(key[representatives(*pool)]) == set(shuffled[3][representatives(*shuffled)])
    score = pool[0] - 0.01 * pool[1]
    stay = survivors(score, key, 7, np.random.default_rng(1))
    again = survivors(score[order], key[order], 7, np.random.default_rng(1))
    assert key[stay].tolist() == key[order][again].tolist()


@given(
    st.lists(st.floats(-1, 1), max_size=60).map(np.array),
    st.integers(10, 70),
    st.integers(0, 2**32),
)
def test_survivors(score: np.ndarray, n: int, seed: int):
    score = score.astype(float)
    key = np.arange(len(score), dtype=np.uint64)[::-1]
    stay = survivors(score, key, n, np.random.default_rng(seed))
    assert len(stay) == len(set(stay.tolist())) == min(n, len(score))
    ordered = sorted(range(len(score)), key=lambda i: (-score[i], key[i]))
    assert stay.tolist()[: n // 4] == ordered[: n // 4][: len(stay)]  # the best quarter
    assert [ordered.index(i) for i in stay] == sorted(ordered.index(i) for i in stay)
    np.testing.assert_array_equal(stay, survivors(score, key, n, np.random.default_rng(seed)))


def test_the_fit_survive_more_often_and_not_alone():
    score, key = np.linspace(0.0, 1.0, 400), np.arange(400, dtype=np.uint64)
    often = np.zeros(400)
    for seed in range(300):
        often[survivors(score, key, 100, np.random.default_rng(seed))] += 1
    assert (often[375:] == 300).all()  # the best quarter
    lower = often[:375].reshape(-1, 75).mean(axis=1)
    assert (np.diff(lower) >= 0).all()
    assert lower[-1] < 270  # not the best hundred alone,
    assert lower[:-1].sum() > 60  # but some of the others


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0])), max_size=40), st.randoms())
def test_a_rank_within_a_group_counts_those_that_are_better(pairs, random):
    group, score = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    key = np.arange(len(pairs), dtype=np.uint64)
    random.shuffle(key)
    better = [
        sum(group[j] == group[i] and (-score[j], key[j]) < (-score[i], key[i]) for j in range(len(pairs)))
        for i in range(len(pairs))
    ]
    assert rank_within(group, score.astype(float), key).tolist() == better
