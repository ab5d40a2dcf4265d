"""The application's backend in a simulation: it asks the server's HTTP API."""

import json
from random import Random
from typing import Any, Final

from heartwire.testing.simulation.network import Path, Wire
from heartwire.testing.simulation.server import Whole

__all__ = ["Backend"]

_COME_BACK: Final = 4000


class Backend:
    """Asks any node, and checks that what is answered is so on all of them. ``path``: its way to them."""

    def __init__(self, world: Whole) -> None:
        self.path = Path("10.1.0.1", Random(f"{world.seed} backend"))
        self._world = world

    def disconnect(self, client: str) -> None:
        """End a connection, wherever it is; its client is to come back."""
        self._world.note("backend", f"disconnects {client}")
        why = {"code": _COME_BACK, "reason": "by the backend"}
        body = json.dumps({"user": "", "client": client, "disconnect": why}).encode()

        def hear(event: Any) -> None:
            if isinstance(event, dict) and event["status"] == 200:
                self._answered(client, json.loads(event["body"]))

        find = self._world.server.find
        Wire(self._world.loop, self.path, "api", transport="api", body=body, find=find, hear=hear)

    def _answered(self, client: str, answer: dict[str, Any]) -> None:
        self._world.note("backend", f"{client}: {answer}")
        store = self._world.server.store
        alive = [] if store is None else store.nodes()
        for node in self._world.server.nodes:
            is_known = node.hub.node.connections.node_id in alive
            if "result" in answer and is_known and client in node.open_ids():
                self._world.checks.fail(f"server{node.name}", f"has {client}, which was said to be ended")
