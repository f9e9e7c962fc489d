"""Threads whose calls travel together each get their own answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from lamplighter_worker.together import Together

from lamplighter.errors import Unavailable


class Counter:
    """Answers each number with its double once it is open; keeps what travelled in each call."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked = threading.Event()
        self.crews: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.crews.append(list(numbers))
        self.asked.set()
        assert self.open.wait(30)
        if 13 in numbers:
            raise Unavailable("not now")
        return [2 * number for number in numbers]


def test_whoever_waits_shares_the_next_call_and_no_call_is_too_large() -> None:
    counter = Counter()
    together = Together(counter, 4)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(together, 0)
        assert counter.asked.wait(30)
        others = [pool.submit(together, number) for number in range(1, 9)]
        while len(together.waiting) < 8:
            threading.Event().wait(0.01)
        counter.open.set()

        assert [future.result(30) for future in (first, *others)] == [2 * number for number in range(9)]

    assert [len(crew) for crew in counter.crews] == [1, 4, 4]


def test_a_failure_is_everybodys_who_travelled_with_it_and_nobody_elses() -> None:
    counter = Counter()
    counter.open.set()
    together = Together(counter, 4)

    with pytest.raises(Unavailable):
        together(13)

    assert together(2) == 4
