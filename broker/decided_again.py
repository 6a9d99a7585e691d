"""
Runs that decide anew about the pairs of another: with another wanted precision, nothing compared.

A run that is done keeps its weighed pairs for some days, sealed by the broker to itself like all
intermediate results, unless a newer run over newer dataset versions has made them useless. A run
`of` it takes them over: thresholds, solving and person IDs are all that is computed, and the result
is that of a whole run with that precision.
"""

from __future__ import annotations

import time

from broker import run_plan, second_look
from broker.config import WorkerSettings
from broker.container import Broker
from broker.scratch import Scratch
from broker.store import runs
from broker.store.engine import Connection

PAIRS = (*second_look.PAIRS, *run_plan.REPORTED)
"""Names of the intermediate results that are kept."""
_DAY = 86_400


def kept(settings: WorkerSettings) -> tuple[str, ...]:
    """Return which intermediate results of a run that is done stay."""
    return PAIRS if settings.keep_pairs_days else ()


def take_over(source: Scratch, target: Scratch, precision: float | None) -> None:
    """
    Give a run the weighed pairs of another, with thresholds for this precision; None for the best
    F1. The same when repeated. Raises MatchingFailed where the pairs are gone.
    """
    second_look.decide_again(source, target, precision)
    for name in run_plan.REPORTED:
        if source.count(name):
            target.put(name, source.get(name))


def drop_outdated(connection: Connection, newest: runs.RunRow) -> list[str]:
    """Forget the pairs of the study's runs over other dataset versions; return their blobs."""
    older = [
        row.id
        for row in runs.of_study(connection, newest.study_id)
        if (row.inputs, row.epoch) != (newest.inputs, newest.epoch)
    ]
    return [blob for one in older for blob in runs.drop_kept(connection, PAIRS, run_id=one)]


def forget_old(broker: Broker) -> None:
    """Forget pairs that were kept for as long as the settings say."""
    before = int(time.time()) - broker.home.config.worker.keep_pairs_days * _DAY
    with broker.database.change() as connection:
        blobs = runs.drop_kept(connection, PAIRS, before=before)
    for blob_id in blobs:
        broker.blobs.delete(blob_id)
