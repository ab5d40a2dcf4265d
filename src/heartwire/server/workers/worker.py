"""What one worker does differently from a server that is alone.

In: an `Assignment`, which its parent leaves in the environment. Out: the same server, on a socket that it
inherited, over the store process of all workers; a report to the parent; an end when the parent is gone.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator, MutableMapping
from typing import Final, Self

import msgspec

from heartwire.engines import registry
from heartwire.engines.reports import inherited, report
from heartwire.errors import ConfigError, HeartwireError
from heartwire.hub.hub import Hub
from heartwire.server.config import Settings
from heartwire.server.run import prepare, serve_on

__all__ = ["Assignment"]

_VARIABLE: Final = "HEARTWIRE_WORKER"

_SETTLE_S: Final = 0.25
"""For a request to come on a connection that was accepted right before the end."""


class Assignment(msgspec.Struct, frozen=True):
    """What a parent tells its worker.

    Attributes:
        workers: how many there are.
        listener, control: descriptors of the socket to accept from, and of the one that leads to the parent.
        engine: the URL of the hub's engine, as the parent has seen it; ``None``: it has none.
        store: the socket of the process that holds this engine; ``None``: the engine is shared by itself.
    """

    workers: int
    listener: int
    control: int
    engine: str | None
    store: str | None

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self | None:
        """The assignment of this process, taken out of the environment; ``None``: it is alone."""
        given = environment.pop(_VARIABLE, None)
        return None if given is None else msgspec.json.decode(given, type=cls)

    def put(self) -> dict[str, str]:
        """The environment of the worker."""
        return os.environ | {_VARIABLE: msgspec.json.encode(self).decode()}

    @contextlib.contextmanager
    def reporting(self) -> Iterator[socket.socket]:
        """Report what the block raises before the server is up, instead of printing it: the parent does,
        once for all workers. From here on the engine of the parent's hub is the one in the store process."""
        with inherited(self.control) as control:
            if self.store is not None and self.engine is not None:
                registry.attach(self.engine, self.store)
            try:
                yield control
            except HeartwireError as error:
                report(control, error)
                sys.exit(1)

    def serve(self, settings: Settings, hub: Hub, control: socket.socket) -> None:
        """Serve as the one of so many workers that this is. See `heartwire.server.run.serve`."""
        if hub.engine_url != self.engine:
            raise ConfigError(
                "engine", hub.engine_url, f"was {self.engine!r}: restart the server to change it"
            )
        prepare(settings, hub)
        hub.node.admission.divide_rate(self.workers)

        def started() -> None:
            report(control)
            loop = asyncio.get_running_loop()

            def gone() -> None:  # nothing is sent this way: what can be read is the end of the parent
                loop.remove_reader(control)
                os.kill(os.getpid(), signal.SIGTERM)

            loop.add_reader(control, gone)

        serve_on(inherited(self.listener), settings, hub, started=started, settle_s=_SETTLE_S)
