"""`FaultyNetwork`: a TCP proxy in front of a real server, with the faults of networks.

`network` is the front and holds the `faults`; a `connections` has two `sides` (sockets), a `pipes` each
way, and the HTTP `exchanges` in it, which `messages` parses; `listeners` is the port.
"""

from heartwire.testing.faulty.faults import ConnectionRecord, Direction, Tap
from heartwire.testing.faulty.network import FaultyNetwork, faulty_network

__all__ = ["ConnectionRecord", "Direction", "FaultyNetwork", "Tap", "faulty_network"]
