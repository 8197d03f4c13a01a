"""Questions to a server on this machine: does it answer?"""

from __future__ import annotations

import httpx

# Shared, for making one reads all certificates of the machine, which costs more than the question; connections are not
# kept, for a server that is asked to stop waits for those.
HTTP = httpx.Client(timeout=10, limits=httpx.Limits(max_keepalive_connections=0))


def answers(url: str) -> bool:
    """Whether GET gives 200."""
    try:
        return HTTP.get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
