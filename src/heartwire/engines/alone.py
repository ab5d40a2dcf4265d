"""Whether a store that one process holds is one of several: in the workers of an ASGI server.

Streams in memory are those of one process. In the second worker of a server they would be others, and readers
would see half of what is published, without an error anywhere. Servers do not say how many workers they have;
but the functions by which they run one are on its stack.
"""

import sys
from types import FrameType

from heartwire.errors import ConfigError

__all__ = ["check_alone"]


def check_alone(url: str) -> None:
    """Raises `ConfigError` in one of several workers of uvicorn, gunicorn, hypercorn or granian."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        server = _server_with_many(frame)
        if server is not None:
            fix = (
                f"{server} has several workers, each of which would have streams of its own: say"
                f" {url}?shared=yes, use `heartwire serve --workers`, or run one worker"
                f" ({url}?shared=no: they shall be apart)"
            )
            raise ConfigError("engine", url, fix)
        frame = frame.f_back


def _server_with_many(frame: FrameType) -> str | None:
    """The server that runs a worker in this frame, where the worker is not alone."""
    module, name, found = frame.f_globals.get("__name__"), frame.f_code.co_name, frame.f_locals
    match module:
        case "uvicorn._subprocess" if name == "subprocess_started":
            many = found["config"].workers > 1 and not found["config"].should_reload
        case "gunicorn.arbiter" if name == "spawn_worker":
            many = found["self"].num_workers > 1
        case "hypercorn.asyncio.run" if name in ("asyncio_worker", "uvloop_worker"):
            many = found["config"].workers > 1
        case "granian.server.common" if name in ("_spawn_workers", "_respawn_workers"):  # forked
            many = found["self"].workers > 1
        case "granian.server.mp" if "worker_id" in found:  # started anew, counted from 1
            many = found["worker_id"] > 1
        case _:
            return None
    return str(module).partition(".")[0] if many else None
