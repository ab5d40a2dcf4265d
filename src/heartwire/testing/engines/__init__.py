"""The engine contract as a conformance suite: `check_engine` runs it, a check works with a `Bench`;
`check_shared_engine` runs what holds for several nodes, with `Nodes`."""

from heartwire.testing.engines.bench import Bench, Check
from heartwire.testing.engines.nodes import Nodes
from heartwire.testing.engines.suite import (
    CHECKS,
    DURABLE_CHECKS,
    KILLING_CHECKS,
    SHARED_CHECKS,
    SharedCheck,
    check_engine,
    check_shared_engine,
)
from heartwire.testing.promises import PromiseBroken

__all__ = [
    "CHECKS",
    "DURABLE_CHECKS",
    "KILLING_CHECKS",
    "SHARED_CHECKS",
    "Bench",
    "Check",
    "Nodes",
    "PromiseBroken",
    "SharedCheck",
    "check_engine",
    "check_shared_engine",
]
