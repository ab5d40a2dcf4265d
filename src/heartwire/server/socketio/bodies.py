"""Bodies of poll answers, compressed where the client takes that."""

import gzip
import zlib
from typing import Final

__all__ = ["TEXT", "compressed"]

TEXT: Final = "text/plain; charset=UTF-8"

_LEVEL: Final = 1
"""Most of the gain for the least time: bodies are made on the event loop."""


def compressed(body: bytes, threshold: int | None, accepts: str) -> tuple[bytes, str]:
    """A body for a client that sent this ``Accept-Encoding``, and its ``Content-Encoding``; "": as it is.
    (RFC 9110 12.5.3; a coding with a weight of 0 is taken for refused.)"""
    if threshold is None or len(body) < threshold or not accepts:
        return body, ""
    codings = {part.partition(";")[0].strip(): part.partition(";")[2] for part in accepts.lower().split(",")}
    for coding in ("gzip", "deflate"):
        if coding in codings and codings[coding].replace(" ", "") not in ("q=0", "q=0.0"):
            made = gzip.compress(body, _LEVEL) if coding == "gzip" else zlib.compress(body, _LEVEL)
            return made, coding
    return body, ""
