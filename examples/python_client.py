"""Two programs joined by a stream: one measures, one watches. Restart the server: no measurement is lost.

heartwire serve
python python_client.py measure kitchen
python python_client.py watch kitchen
"""

import argparse
import asyncio
import contextlib
import random
from pathlib import Path

import heartwire
from heartwire.client import Client


async def measure(client: Client, room: str, every_s: float) -> None:
    celsius = 20.0
    while True:
        celsius += random.uniform(-0.5, 0.5)
        # Returns once the server has the measurement.
        position = await client.publish(f"sensor:{room}", {"celsius": round(celsius, 1)})
        print(f"{position}: {celsius:.1f} °C", flush=True)
        await asyncio.sleep(every_s)


def watch(client: Client, room: str, bookmark: Path) -> None:
    """Continue where the last run ended: the bookmark is the position of the last measurement shown."""

    def show(measurement: heartwire.Received) -> None:
        print(f"{measurement.data['celsius']} °C", flush=True)
        bookmark.write_text(str(measurement.position))

    client.on("gap", lambda gap: print(f"expired measurements up to {gap.after_offset}", flush=True))
    client.subscribe(f"sensor:{room}", show, since=bookmark.read_text() if bookmark.exists() else "earliest")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("measure", "watch"))
    parser.add_argument("room")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--every-s", type=float, default=1)
    arguments = parser.parse_args()
    async with heartwire.connect(arguments.url) as client:
        client.on("state", lambda change: print(f"[{change.state}: {change.reason}]", flush=True))
        if arguments.what == "measure":
            await measure(client, arguments.room, arguments.every_s)
        else:
            watch(client, arguments.room, Path(f"{arguments.room}.position"))
            await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
