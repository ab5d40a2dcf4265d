"""What may be remembered of what clients send: bounded in bytes, because clients choose the keys."""

from typing import Final, Generic, TypeVar

__all__ = ["ByteCache"]

V = TypeVar("V")

_ENTRY_BYTES: Final = 256
"""About what an entry costs besides its key: the dictionary's slot, the value's objects."""


class ByteCache(dict[bytes, V], Generic[V]):
    """A dictionary that forgets everything when it is full. Read it as one, write by `remember`.

    Args:
        max_bytes: of all entries, each counted as its key and 256 bytes.
        max_key_bytes: longer keys are not remembered.
    """

    def __init__(self, max_bytes: int, *, max_key_bytes: int = 2048) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._max_key_bytes = max_key_bytes
        self.size_bytes = 0

    def remember(self, key: bytes, value: V) -> V:
        """Keep ``value``, unless the key is too long. Returns it."""
        size = len(key) + _ENTRY_BYTES
        if len(key) <= self._max_key_bytes:
            if self.size_bytes + size > self._max_bytes:
                self.clear()
                self.size_bytes = 0
            self.size_bytes += size
            self[key] = value
        return value
