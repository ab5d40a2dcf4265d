"""Namespaces as classes: a method for each event."""

from collections.abc import Callable
from typing import Any

__all__ = ["AsyncNamespace"]


class AsyncNamespace:
    """A namespace whose events are handled by methods: ``on_connect``, ``on_disconnect``, ``on_`` and an
    event's name."""

    server: Any

    def __init__(self, namespace: str | None = None) -> None:
        self.namespace = namespace or "/"

    def handler(self, event: str) -> Callable[..., Any] | None:
        """The method of an event."""
        return getattr(self, f"on_{event}", None)

    async def emit(self, event: str, data: Any = None, **options: Any) -> None:
        """`AsyncServer.emit` in this namespace."""
        options.setdefault("namespace", self.namespace)
        await self.server.emit(event, data, **options)
