"""The name that a node has for the others."""

import os
import secrets

__all__ = ["OwnNode"]


class OwnNode:
    """A node of this process. A program may make its engine and then fork, so each process takes a name of
    its own when it starts."""

    def __init__(self) -> None:
        self._name_node()

    def _name_node(self) -> None:
        """Take a name. What is made of it is made here."""
        self.node = secrets.token_hex(4)
        self._process = os.getpid()

    def _begin_node(self) -> None:
        """To be called first at the start."""
        if self._process != os.getpid():
            self._name_node()
