"""The Lua scripts that are one call to Redis each: atomic, and with the store's own clock."""

import hashlib
from importlib.resources import files
from typing import Final

__all__ = ["SCRIPTS", "Script"]

_OF_STREAMS: Final = frozenset(
    ("append", "heads", "read", "record", "remove", "renew", "restore", "touch", "trim", "write")
)


class Script:
    """One script.

    Attributes:
        has_life: its first arguments are the life of the store, whether a restart keeps epochs, and an epoch
            that no stream has had. They are of the connection that it is sent on.
    """

    def __init__(self, name: str) -> None:
        parts = ["_common", *(["_stream"] if name in _OF_STREAMS else []), name]
        folder = files("heartwire.engines.redis") / "lua"
        self.name = name
        self.text = "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in parts)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self.has_life = name in _OF_STREAMS

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


APPEND: Final = Script("append")
READ: Final = Script("read")
HEADS: Final = Script("heads")
REMOVE: Final = Script("remove")
RENEW: Final = Script("renew")
RESTORE: Final = Script("restore")
TRIM: Final = Script("trim")
RECORD: Final = Script("record")
WRITE: Final = Script("write")
TOUCH: Final = Script("touch")
MEMBERS: Final = Script("members")
ANNOUNCE: Final = Script("announce")
REAP: Final = Script("reap")
EXPIRE: Final = Script("expire")
MOVED: Final = Script("moved")
BEAT: Final = Script("beat")
NODES: Final = Script("nodes")
DEAD: Final = Script("dead")
BURY: Final = Script("bury")
ADMIT: Final = Script("admit")
DISMISS: Final = Script("dismiss")

SCRIPTS: Final = tuple(one for one in globals().values() if isinstance(one, Script))
