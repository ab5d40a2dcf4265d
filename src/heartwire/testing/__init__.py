"""Test tools: a clock moved by hand, real servers, bad networks, whole systems in virtual time, and suites
for engines and transports. `docs/testing.md` shows each."""

from heartwire.testing.clock import FakeClock
from heartwire.testing.engines import CHECKS, Bench, Check, Nodes, check_engine, check_shared_engine
from heartwire.testing.faulty import ConnectionRecord, FaultyNetwork, faulty_network
from heartwire.testing.network import black_hole
from heartwire.testing.promises import PromiseBroken
from heartwire.testing.server import ServerProcess, run_server, serving
from heartwire.testing.simulation.client import SimulatedClient
from heartwire.testing.simulation.engine import SimulatedEngine
from heartwire.testing.simulation.loop import VirtualLoop
from heartwire.testing.simulation.seeds import run_seed
from heartwire.testing.simulation.world import Broken, Simulation
from heartwire.testing.stores import (
    PostgresServer,
    ValkeyServer,
    run_postgres,
    run_valkey,
    run_valkey_cluster,
)
from heartwire.testing.transports import check_transport

__all__ = [
    "CHECKS",
    "Bench",
    "Broken",
    "Check",
    "ConnectionRecord",
    "FakeClock",
    "FaultyNetwork",
    "Nodes",
    "PostgresServer",
    "PromiseBroken",
    "ServerProcess",
    "SimulatedClient",
    "SimulatedEngine",
    "Simulation",
    "ValkeyServer",
    "VirtualLoop",
    "black_hole",
    "check_engine",
    "check_shared_engine",
    "check_transport",
    "faulty_network",
    "run_postgres",
    "run_seed",
    "run_server",
    "run_valkey",
    "run_valkey_cluster",
    "serving",
]
