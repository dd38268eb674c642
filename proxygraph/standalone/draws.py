"""The random places that the search sampled, drawn again without numpy."""

from __future__ import annotations

from collections.abc import Sequence


class Stream:
    """The 32-bit numbers of numpy's ``default_rng(key)``: its seed sequence and PCG64 (O'Neill 2014)."""

    def __init__(self, key: Sequence[int]) -> None:
        words: list[int] = []
        for number in key:
            words.append(number % 2**32)
            while number := number >> 32:
                words.append(number % 2**32)
        self.constant = 0x43B0D7E5
        pool = [self.hashed(word) for word in [*words, 0, 0, 0, 0][:4]]
        for i in range(4):
            for j in range(4):
                if i != j:
                    pool[j] = self.mixed(pool[j], self.hashed(pool[i]))
        for word in words[4:]:
            pool = [self.mixed(value, self.hashed(word)) for value in pool]
        self.constant = 0x8B51F9DD
        half = [self.hashed(pool[i % 4], 0x58F38DED) for i in range(8)]
        a, b, c, d = (half[2 * i] | half[2 * i + 1] << 32 for i in range(4))
        self.increment = (c << 65 | d << 1 | 1) % 2**128
        self.state = (a << 64 | b) + self.increment
        self.step()
        self.left: int | None = None

    def hashed(self, value: int, multiplier: int = 0x931E8875) -> int:
        """Return a hash that depends on how many came before."""
        value ^= self.constant
        self.constant = self.constant * multiplier % 2**32
        value = value * self.constant % 2**32
        return value ^ value >> 16

    def mixed(self, x: int, y: int) -> int:
        """Return a hash of two numbers."""
        value = (x * 0xCA01F9DD - y * 0x4973F715) % 2**32
        return value ^ value >> 16

    def step(self) -> None:
        """Advance the generator."""
        self.state = (self.state * 0x2360ED051FC65DA44385DF649FCCF645 + self.increment) % 2**128

    def word(self) -> int:
        """Return the next 32 bits."""
        if self.left is not None:
            low, self.left = self.left, None
            return low
        self.step()
        x, turn = (self.state >> 64 ^ self.state) % 2**64, self.state >> 122
        x = (x >> turn | x << 64 - turn) % 2**64
        self.left = x >> 32
        return x % 2**32


def drawn(key: Sequence[int], n: int, k: int) -> list[int]:
    """Return the first `k` entries of the random permutation of 0..n-1 that `key` fixes, k at most 4096."""
    stream = Stream([*key, 0])
    if n <= 1 << 14:
        places = list(range(n))
        for i in range(n - 1, 0, -1):
            while (j := stream.word() % 2 ** i.bit_length()) > i:
                pass
            places[i], places[j] = places[j], places[i]
        return places[:k]
    found: dict[int, None] = {}
    while len(found) < k:
        product = stream.word() * n
        if product % 2**32 >= 2**32 % n:
            found[product >> 32] = None
    return list(found)
