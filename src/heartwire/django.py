"""For Django: `publish_in`, which publishes with a model's transaction.

with transaction.atomic():
    order.save()
    heartwire.django.publish_in(f"orders:{order.customer_id}", {"id": order.id})
"""

from django.db import DEFAULT_DB_ALIAS, connections

from heartwire.engines.postgres.publish import publish_by
from heartwire.types import Position

__all__ = ["publish_in"]


def publish_in(
    channel: str,
    data: object,
    *,
    key: str | None = None,
    key_ttl_s: float = 300,
    using: str = DEFAULT_DB_ALIAS,
    schema: str = "heartwire",
    max_message_bytes: int = 1024 * 1024,
) -> Position:
    """`heartwire.publish_in` by Django's connection ``using``: within ``transaction.atomic``, with its commit
    or not at all; outside of it, at once."""
    with connections[using].cursor() as cursor:
        return publish_by(cursor, channel, data, key, key_ttl_s, schema, max_message_bytes)
