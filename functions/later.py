"""Parts that are made at their first use, because making them is slow and most calls do without."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Once(Generic[T]):
    """Gives what `make` has made, made by the first who asks. A `make` that raises is tried again by the next.

    May be called from any thread.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._making = threading.Lock()

    def __call__(self) -> T:
        if not self._made:
            with self._making:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]


def later(make: Callable[[], T]) -> T:
    """Stands for what `make` gives: its methods and attributes, but not its operators."""
    return cast(T, _Later(make))


class _Later:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._once = Once(make)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._once(), name)
