"""`FaultyNetwork`: a proxy in front of a real server that can be bad in every way a network is."""

from heartwire.testing.faulty.faults import ConnectionRecord, Direction, Tap
from heartwire.testing.faulty.network import FaultyNetwork, faulty_network

__all__ = ["ConnectionRecord", "Direction", "FaultyNetwork", "Tap", "faulty_network"]
