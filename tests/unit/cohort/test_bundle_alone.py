"""Nothing of another subject is in a subject's bundle, though it is cut out of a table of all."""

from __future__ import annotations

import datetime as dt
import random
import string
from typing import Any

import pyarrow as pa
import pytest

from sites.cohort.bundle import (
    BUNDLE_SCHEMAS,
    DATE_FRAMES,
    EVENT_NODES,
    FEATURE_SOURCES,
    bundle_to_bytes,
    bundles_to_bytes,
)

OWN = range(500, 503)
N = 900
WORDS = {"date_frame": DATE_FRAMES, "source": FEATURE_SOURCES, "node": EVENT_NODES}


def value(field: pa.Field, draw: random.Random) -> Any:
    """Return any value that fits a column."""
    if field.nullable and draw.random() < 0.4:
        return None
    if field.name.endswith("_uid"):
        return f"2.25.{draw.getrandbits(draw.choice([30, 90]))}"
    if field.name in WORDS:
        return draw.choice(WORDS[field.name])
    if pa.types.is_string(field.type):
        return "".join(draw.choices(string.ascii_letters, k=draw.randint(1, 30)))
    if pa.types.is_date(field.type):
        return dt.date(2000, 1, 1) + dt.timedelta(draw.randint(0, 999))
    if pa.types.is_boolean(field.type):
        return draw.random() < 0.5
    if pa.types.is_integer(field.type):
        return draw.getrandbits(20)
    return draw.random()


def table(name: str, others: str) -> pa.Table:
    """Return rows of which OWN are always the same, and all the others hang on `others`."""
    schema = BUNDLE_SCHEMAS[name]
    rows = []
    for at in range(N):
        draw = random.Random(f"{'own' if at in OWN else others} {name} {at}")
        rows.append({field.name: value(field, draw) for field in schema})
    return pa.Table.from_pylist(rows, schema=schema)


@pytest.fixture(scope="module", params=["these", "those"])
def tables(request: pytest.FixtureRequest) -> dict[str, pa.Table]:
    return {name: table(name, request.param) for name in BUNDLE_SCHEMAS}


@pytest.fixture(scope="module")
def alone() -> bytes:
    """The bundle of the subject's rows, made where there never were any others."""
    made = {}
    for name, schema in BUNDLE_SCHEMAS.items():
        rows = table(name, "these").slice(OWN.start, len(OWN)).to_pylist()
        made[name] = pa.Table.from_pylist(rows, schema=schema)
    return bundle_to_bytes(made)


@pytest.mark.threat("T11")
def test_a_bundle_is_the_same_whoever_stands_beside(
    tables: dict[str, pa.Table], alone: bytes
) -> None:
    cut = {name: one.slice(OWN.start, len(OWN)) for name, one in tables.items()}
    assert bundle_to_bytes(cut) == alone
    spans = {name: {"me": (OWN.start, len(OWN))} for name in tables}
    assert dict(bundles_to_bytes(tables, spans, ["me"])) == {"me": alone}
