"""The seconds of a run's stages, of which the row alone knows after a restart."""

from __future__ import annotations

import json
import time

import pytest

from broker import run_progress
from broker.store import runs, studies
from broker.store.engine import Database


@pytest.mark.parametrize("took", [None, 7.25])
def test_a_clock_that_goes_back_takes_no_seconds_from_a_stage(
    database: Database, took: float | None
) -> None:
    """The stage began an hour from now, as it seems after the clock was put back."""
    before = {"reading": 2.5} | ({} if took is None else {"candidates": took})
    study = studies.StudyRow(id="small-study", study_hash="0" * 64, signed="{}", registered_at=0)
    row = runs.RunRow(
        id="run-1",
        study_id=study.id,
        seed=1,
        epoch=1,
        inputs="{}",
        software="1",
        state="running",
        started_at=1,
        stage="candidates",
        stage_began=time.time() + 3600,
        seconds=json.dumps(before),
    )
    with database.change() as connection:
        studies.add_study(connection, study)
        runs.add(connection, row)
    begun = time.monotonic()
    for stage in ("candidates", "candidates", "weights"):
        with database.change() as connection:
            run_progress.show(connection, row.id, stage, 0.5)
            found = runs.find(connection, row.id) or row
        seconds = json.loads(found.seconds)
        assert seconds["reading"] == 2.5
        # Rounded to a thousandth, each time.
        most = (took or 0.0) + time.monotonic() - begun + 0.002
        assert (took or 0.0) <= seconds["candidates"] <= most
    assert seconds["weights"] == 0.0
    assert 0 < (found.stage_began or 0) <= time.time()
