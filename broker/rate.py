"""
How many failed attempts to sign in one address has: a token bucket (RFC 2697's kind) for each.

In the memory of the one process that serves (docs/adr/0006), for two reasons: an address is
personal data that the database need not hold, and an attempt that is refused should cost no write.
A restart forgets addresses; the failures of each name are in the database and stay
(broker.signing_in). During an update two processes may serve, and then allow twice as many.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable

from linkage.errors import TooManyRequests

_MOST_ADDRESSES = 20_000
"""Remembered at a time. Beyond, those longest without a failure are forgotten."""


class Attempts:
    """per_minute: failures that one address may have, at once and a minute. now: seconds."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._now = per_minute, now
        self._lock = threading.Lock()
        self._spent: dict[str, tuple[float, float]] = {}

    def require(self, address: str) -> None:
        """Raises TooManyRequests where the address has none left."""
        with self._lock:
            spent = self._left(_net(address))
        if spent > self._per_minute - 1:
            wait = 1 + int((spent - self._per_minute + 1) * 60 / self._per_minute)
            raise TooManyRequests(
                "too many failed attempts to sign in came from this address",
                hint=f"wait {wait} seconds; look at what keeps trying",
                retry_after=wait,
            )

    def failed(self, address: str) -> None:
        """Note a failure."""
        net = _net(address)
        with self._lock:
            spent = self._left(net)
            self._spent.pop(net, None)  # to the end: dictionaries keep the order of insertion
            self._spent[net] = (spent + 1, self._now())
            while len(self._spent) > _MOST_ADDRESSES:
                del self._spent[next(iter(self._spent))]

    def _left(self, net: str) -> float:
        spent, at = self._spent.get(net, (0.0, 0.0))
        return max(0.0, spent - (self._now() - at) * self._per_minute / 60)


def _net(address: str) -> str:
    """Return the address; of IPv6 its /64, which one subscriber has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))
