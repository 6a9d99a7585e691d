"""What counts towards quotas: everything that a sender keeps here, opt-out lists too."""

from __future__ import annotations

import pytest

from broker.store import assertions, governance, jobs, studies, uploads
from broker.store.engine import Database

STUDY, OTHER = "small-study", "other-study"


@pytest.fixture
def database(database: Database) -> Database:
    with database.change() as connection:
        for study in (STUDY, OTHER):
            row = studies.StudyRow(id=study, study_hash="0" * 64, signed="{}", registered_at=0)
            studies.add_study(connection, row)
    return database


def of(database: Database, *senders: str) -> tuple[int, int]:
    with database.read() as connection:
        return uploads.bytes_of(connection, STUDY, set(senders) or None)


def test_nothing_is_nothing(database: Database) -> None:
    assert of(database) == of(database, "claims") == (0, 0)


def test_everything_a_sender_keeps_counts_once(database: Database) -> None:
    blobs = iter(f"{number:032x}" for number in range(100))
    with database.change() as connection:
        for study, uploader, number, size, state in (
            (STUDY, "claims", 1, 1000, "withdrawn"),
            (STUDY, "claims", 2, 200, "complete"),
            (STUDY, "imaging", 1, 30, "quarantined"),
            (STUDY, "enclave", 1, 4, "receiving"),
            (OTHER, "claims", 1, 5000, "complete"),
        ):
            row = studies.DatasetRow(
                study_id=study,
                uploader=uploader,
                number=number,
                epoch=1,
                manifest="{}",
                manifest_hash="0" * 64,
                state=state,
                announced_at=0,
                completed_at=None,
                bytes=size,
            )
            studies.add_dataset(connection, row)
        lists = {"epoch": 1, "digest": "0" * 64, "placed_at": 0}
        for study, uploader, number, size in (
            (STUDY, "claims", 1, 7),
            (STUDY, "claims", 2, 11),
            (STUDY, "imaging", 1, 13),
            (OTHER, "claims", 1, 6000),
        ):
            named = {"study_id": study, "uploader": uploader, "number": number, "size": size}
            one = governance.OptOutRow(**named, **lists, blob_id=next(blobs))  # type: ignore[arg-type]
            governance.add_opt_outs(connection, one)
            two = assertions.ListRow(**named, **lists, blob_id=next(blobs))  # type: ignore[arg-type]
            assertions.add(connection, two)
        for sender, size in (("broker", 9000), ("imaging", 100)):
            item = jobs.ItemRow(
                id=f"item-{sender}",
                study_id=STUDY,
                sender=sender,
                recipient="enclave",
                purpose="question-answer",
                subject="question-1",
                blob_id=next(blobs),
                size=size,
                digest="0" * 64,
                placed_at=0,
            )
            jobs.add_item(connection, item)
    assert of(database) == (234, 100 + 2 * (7 + 11 + 13))
    assert of(database, "claims") == (200, 2 * (7 + 11))
    assert of(database, "imaging") == (30, 100 + 2 * 13)
    assert of(database, "enclave") == (4, 0)
    assert of(database, "claims", "imaging") == (230, 100 + 2 * (7 + 11 + 13))
    assert of(database, "nobody") == (0, 0)
