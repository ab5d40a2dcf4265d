"""Publishers: the Python client, which publishes again what was not answered, with the same key."""

import asyncio
import random
from typing import Final

import heartwire
from heartwire import Options
from heartwire.client.options import Transport
from heartwire.errors import HeartwireError
from tools.chaos.verdict import Ack

__all__ = ["PATIENT", "Publisher"]

PATIENT: Final = Options(
    backoff_base_s=0.1,
    backoff_cap_s=1,
    attempt_burst=1000,
    attempt_rate_per_s=1000,
    open_timeout_s=2,
    later_s=0.5,
    poll_interval_s=0.1,
    close_timeout_s=1,
)
"""Of clients that come back soon, as there is always a node."""

_AT_A_TIME: Final = 16


class Publisher:
    """Publishes "NAME 0", "NAME 1", ... in each of its channels, some at a time: most in the first, some in
    the next, seldom in the last.

    Attributes:
        sent: how many by channel.
        acks: those answered.
        refused: those that were not, in words.
        slowest_s: the longest wait for an answer.
    """

    def __init__(
        self, name: str, url: str, transport: Transport, channels: list[str], *, rate_per_s: float, seed: int
    ) -> None:
        self.name = name
        self.transport = transport
        self.sent = dict.fromkeys(channels, 0)
        self.acks: list[Ack] = []
        self.refused: list[str] = []
        self.slowest_s = 0.0
        self._client = heartwire.connect(url, transports=(transport,), options=PATIENT)
        self._rate_per_s = rate_per_s
        self._random = random.Random(f"{seed} {name}")
        self._weights = [8.0**-number for number in range(len(channels))]
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, until: asyncio.Event) -> None:
        """Publish until then, and wait for the last answer."""
        async with self._client:
            while not until.is_set():
                count = self._random.randint(1, 5)
                channel = self._random.choices(list(self.sent), self._weights)[0]
                for _ in range(count):
                    self.publish(channel)
                await asyncio.sleep(self._random.uniform(0, 2) * count / self._rate_per_s)
                while len(self._under_way) >= _AT_A_TIME:
                    await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*self._under_way)

    def publish(self, channel: str) -> None:
        """Publish the next one."""
        body = f"{self.name} {self.sent[channel]}"
        self.sent[channel] += 1
        task = asyncio.create_task(self._publish(channel, body))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _publish(self, channel: str, body: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self.acks.append(Ack(channel, body, await self._client.publish(channel, body)))
        except HeartwireError as error:
            self.refused.append(f"{body!r} in {channel} was not acknowledged: {error!r}")
        self.slowest_s = max(self.slowest_s, loop.time() - began)
