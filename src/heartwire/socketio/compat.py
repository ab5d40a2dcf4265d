"""What programs reach for behind python-socketio's server: ``sio.eio``, ``sio.manager``, ``sio.reason``."""

from typing import Final

from heartwire.server.socketio.entries import Room
from heartwire.server.socketio.server import SocketServer
from heartwire.socketio.options import check_settings

__all__ = ["EngineIo", "Manager", "Reasons"]


class Reasons:
    """The second argument of disconnect handlers."""

    CLIENT_DISCONNECT: Final = "client disconnect"
    SERVER_DISCONNECT: Final = "server disconnect"
    PING_TIMEOUT: Final = "ping timeout"
    TRANSPORT_CLOSE: Final = "transport close"
    TRANSPORT_ERROR: Final = "transport error"


class EngineIo:
    """The times of the Engine.IO server; those that are set hold for connections that come later."""

    def __init__(self, server: SocketServer) -> None:
        self._server = server

    @property
    def ping_interval(self) -> float:
        """Seconds between two pings."""
        return self._server.settings.ping_interval_s

    @ping_interval.setter
    def ping_interval(self, seconds: float) -> None:
        self._set(ping_interval_s=seconds)

    @property
    def ping_timeout(self) -> float:
        """Seconds to wait for the answer of a ping."""
        return self._server.settings.ping_timeout_s

    @ping_timeout.setter
    def ping_timeout(self, seconds: float) -> None:
        self._set(ping_timeout_s=seconds)

    def _set(self, **times: float) -> None:
        settings = self._server.settings._replace(**times)  # type: ignore[arg-type]
        check_settings(settings)
        self._server.change_times(settings)


class Manager:
    """Who is connected to this node, as python-socketio's manager lists it."""

    def __init__(self, server: SocketServer) -> None:
        self._server = server

    @property
    def rooms(self) -> dict[str, dict[Room | None, dict[str, str]]]:
        """A copy: by namespace and room (``None``: all) clients' sids, with those of their connections."""
        made: dict[str, dict[Room | None, dict[str, str]]] = {}
        for namespace, router in self._server.routers.items():
            rooms = made[namespace] = {}
            for sid, member in router.members.items():
                for room in (None, *member.rooms):
                    rooms.setdefault(room, {})[sid] = member.socket.client.engine.sid
        return {namespace: rooms for namespace, rooms in made.items() if rooms}

    def is_connected(self, sid: str, namespace: str) -> bool:
        """Whether a client is in a namespace, here."""
        router = self._server.routers.get(namespace)
        member = router.members.get(sid) if router is not None else None
        return member is not None and member.socket.is_connected

    def get_namespaces(self) -> list[str]:
        """The namespaces that anybody here is in."""
        return list(self.rooms)

    def get_participants(self, namespace: str, room: Room | None) -> list[tuple[str, str]]:
        """The clients in a room (``None``: all), with the sids of their connections."""
        return list(self.rooms.get(namespace, {}).get(room, {}).items())
