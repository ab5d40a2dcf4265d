"""The name that a node has for the others."""

import os
import secrets

__all__ = ["OwnNode"]


class OwnNode:
    """A node of this process. A program may make its engine and then fork, so each process takes a name of
    its own when it starts."""

    def __init__(self) -> None:
        self.node = secrets.token_hex(4)
        self._process = os.getpid()

    def _begin_node(self) -> None:
        if self._process != os.getpid():
            OwnNode.__init__(self)
