"""Peers that misbehave, for `tools.soak`: functions ``async def name(port, peers) -> None`` that connect and
misbehave until every connection is closed."""
