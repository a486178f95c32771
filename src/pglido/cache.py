"""Tables of what was found out lately: bounded in bytes, not only in entries, and emptied when memory is short."""

from typing import Any
from weakref import WeakSet

# Bytes of an entry besides what it is said to take.
BARE = 300


class Cache:
    """Values by key, those asked for lately: at most `most`, and of at most `limit` bytes as `put` is told.

    Held in two generations of half of that each: what is not asked for while one is filled is let go with it.
    """

    __slots__ = ("__weakref__", "_new", "_old", "_old_size", "_size", "limit", "most")

    def __init__(self, limit: int, most: int) -> None:
        self.limit = limit
        self.most = most
        self._new: dict[Any, tuple[Any, int]] = {}
        self._old: dict[Any, tuple[Any, int]] = {}
        self._size = self._old_size = 0
        _caches.add(self)

    def get(self, key: Any) -> Any:
        """The value of this key, None if there is none."""
        found = self._new.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                return None
            self.put(key, found[0], found[1])
        return found[0]

    def put(self, key: Any, value: Any, size: int) -> None:
        """Keep a value, with its key of so many bytes; not if that is an eighth of all or more."""
        if 8 * size < self.limit and self.most:
            size += BARE
            if 2 * (self._size + size) > self.limit or 2 * len(self._new) >= self.most:
                self._old, self._new = self._new, {}
                self._old_size, self._size = self._size, 0
            self._new[key] = value, size - BARE
            self._size += size

    def clear(self) -> None:
        """Let go of all."""
        self._new = {}
        self._old = {}
        self._size = self._old_size = 0

    def size(self) -> int:
        """Bytes of all."""
        return self._size + self._old_size

    def __len__(self) -> int:
        return len(self._new) + len(self._old)


_caches: WeakSet[Cache] = WeakSet()


def caches() -> list[Cache]:
    """All that there are."""
    return list(_caches)


def clear_all() -> None:
    """Memory is short: let go of what can be found out again."""
    for cache in caches():
        cache.clear()
