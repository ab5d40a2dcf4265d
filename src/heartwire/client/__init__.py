"""The Python client: `connect` for asyncio, `connect_sync` for scripts, and classes for annotations."""

from heartwire.client.client import Client
from heartwire.client.connecting import connect
from heartwire.client.options import Options
from heartwire.client.outputs import Gap
from heartwire.client.received import Received
from heartwire.client.subscription import Subscription
from heartwire.client.sync import SyncClient, SyncSubscription, connect_sync

__all__ = [
    "Client",
    "Gap",
    "Options",
    "Received",
    "Subscription",
    "SyncClient",
    "SyncSubscription",
    "connect",
    "connect_sync",
]
