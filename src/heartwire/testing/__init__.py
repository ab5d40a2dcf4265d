"""Tools for testing, ours and yours: a clock moved by hand, real servers, bad networks, and the suites that engines and transports
have to pass."""

from heartwire.testing.clock import FakeClock
from heartwire.testing.engines import CHECKS, Bench, Check, PromiseBroken, check_engine
from heartwire.testing.faulty import ConnectionRecord, FaultyNetwork, faulty_network
from heartwire.testing.network import black_hole
from heartwire.testing.server import ServerProcess, run_server, serving
from heartwire.testing.transports import check_transport

__all__ = [
    "CHECKS",
    "Bench",
    "Check",
    "ConnectionRecord",
    "FakeClock",
    "FaultyNetwork",
    "PromiseBroken",
    "ServerProcess",
    "black_hole",
    "check_engine",
    "check_transport",
    "faulty_network",
    "run_server",
    "serving",
]
