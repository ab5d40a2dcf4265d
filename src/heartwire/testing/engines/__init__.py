"""The contract of engines as a suite: what runs it, what a check has at hand, and the checks."""

from heartwire.testing.engines.bench import Bench, Check, PromiseBroken
from heartwire.testing.engines.suite import CHECKS, DURABLE_CHECKS, check_engine

__all__ = ["CHECKS", "DURABLE_CHECKS", "Bench", "Check", "PromiseBroken", "check_engine"]
