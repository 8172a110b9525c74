"""A memory for what is dear to make: the latest few, and none of it travels to another process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        if key not in self._held:
            self._held[key] = make()
            if len(self._held) > self._limit:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit, "_held": OrderedDict()}
