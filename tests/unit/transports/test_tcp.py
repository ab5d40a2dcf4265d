"""What the kernel is asked about a connection, also when it has just ended."""

import asyncio
import sys

import pytest

from heartwire.transports.tcp import cut, unanswered_s, unsent_bytes


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not run there")
def test_a_connection_that_has_ended_is_no_fault() -> None:
    """uvloop's socket has the number -1 then, which is not an ``OSError``."""
    import uvloop

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        async with server:
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *server.sockets[0].getsockname()[:2]
            )
            assert unsent_bytes(transport) == 0
            transport.abort()
            for _ in range(5):
                await asyncio.sleep(0)
            assert transport.get_extra_info("socket").fileno() == -1
            assert unsent_bytes(transport) == 0
            assert unanswered_s(transport) == 0
            cut(transport)

    uvloop.run(main())
