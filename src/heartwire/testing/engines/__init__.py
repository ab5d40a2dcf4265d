"""The engine contract as a conformance suite: `check_engine` runs it, a check works with a `Bench`."""

from heartwire.testing.engines.bench import Bench, Check
from heartwire.testing.engines.suite import CHECKS, DURABLE_CHECKS, check_engine
from heartwire.testing.promises import PromiseBroken

__all__ = ["CHECKS", "DURABLE_CHECKS", "Bench", "Check", "PromiseBroken", "check_engine"]
