"""The worker's governance: opt-out lists are read, studies destroyed, retention rules applied."""

from __future__ import annotations

import time
from collections.abc import Callable

from broker.container import Broker
from broker.destruction import Destroyer
from broker.opt_out_reports import OptOutReader
from linkage.sealing import KeyHolder

RETENTION_SECONDS = 3600.0


class Governor:
    """
    Tends what is agreed. identity: the broker's own private keys. now: Unix seconds, what the
    clocks of retention go by; how often they are looked at is measured apart, and a clock that
    jumps does not stop it.
    """

    def __init__(
        self, broker: Broker, identity: KeyHolder, *, now: Callable[[], float] = time.time
    ) -> None:
        self._broker = broker
        self._opt_outs = OptOutReader(broker, identity, now=now)
        self._destroyer = Destroyer(broker, identity, now=now)
        self._looked = float("-inf")

    def tend(self) -> None:
        """Do what is to be done now. Called about once a second."""
        self._opt_outs.tend()
        self._destroyer.tend()
        if time.monotonic() - self._looked > RETENTION_SECONDS:
            self._broker.retention.enforce()
            self._looked = time.monotonic()
