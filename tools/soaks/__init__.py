"""Clients that misbehave until the server ends them; each is ``async def name(port, peers) -> None``."""
