"""Calls of several threads that travel together: whoever comes while one is under way waits, and all who wait share the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Costs nobody time: a lone question is asked at once. `ask` gives one answer to each question, or raises for all of them."""

    def __init__(self, ask: Callable[[Sequence[Q]], Sequence[A]], most: int) -> None:
        self._ask = ask
        self._most = most
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self.waiting: list[_Asked[Q, A]] = []

    def __call__(self, question: Q) -> A:
        """The answer. Raises what `ask` raised for the call that this question travelled in."""
        mine: _Asked[Q, A] = _Asked(question)
        with self._lock:
            self.waiting.append(mine)
        with self._turn:
            while not mine.done:
                self._travel()
        if mine.error is not None:
            raise mine.error
        return mine.answers[0]

    def _travel(self) -> None:
        with self._lock:
            crew, self.waiting = self.waiting[: self._most], self.waiting[self._most :]
        try:
            for one, answer in zip(crew, self._ask([one.question for one in crew]), strict=True):
                one.answers.append(answer)
        except BaseException as e:  # each of them raises it in its own thread
            for one in crew:
                one.error = e
        finally:
            for one in crew:
                one.done = True


class _Asked(Generic[Q, A]):
    def __init__(self, question: Q) -> None:
        self.question = question
        self.answers: list[A] = []
        self.error: BaseException | None = None
        self.done = False
