"""The HTML report: self-contained, escaped, nothing that report.json withholds."""

from __future__ import annotations

import datetime as dt
import re

import pyarrow as pa
import pytest

from linkage.errors import PackageRefused
from sites.cohort.attrition import Attrition, Step, attrition_from_bytes
from sites.cohort.report import Delivered, html_of, report_of


def delivered(*counts: int, title: str = "A title", series: int = 90) -> Delivered:
    steps = [Step(label=f"step {n}", subjects=c, reason=f"r{n}") for n, c in enumerate(counts)]
    last = counts[-1]
    described = pa.table({"sex": ["female"] * last, "age": pa.array([40] * last, pa.int64())})
    return Delivered(
        title=title,
        purpose="A purpose",
        spec_hash="0" * 64,
        imaging_words=["modality is CT"],
        clinical_words=["any person at all"],
        study_id="study",
        minimum_cell=11,
        image_retrieval="cover",
        trace={"run": "r-1"},
        imaging=Attrition(
            side="imaging", steps=(Step(label="all", subjects=500, studies=700, series=900),)
        ),
        steps=steps,
        described=described,
        has_age=True,
        table_rows={"omop/image_occurrence": series, "omop/cohort": last - 3},
        facts={},
        studies=60,
        ambiguous=3,
        without_concept=0,
        without_date=0,
        unknown_persons={"death": 4},
        notes=("a note",),
        made_at=dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    )


def test_the_page_stands_alone() -> None:
    page = html_of(report_of(delivered(100, 60)))
    assert "<script" not in page
    assert not re.search(r"(src|href)=|url\(|@import|https?://", page)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_text_of_the_researcher_is_escaped() -> None:
    page = html_of(report_of(delivered(100, 60, title="<script>alert(1)</script>")))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_lost_link_that_few_persons_share_is_nowhere() -> None:
    report = report_of(delivered(100, 96, 60))
    assert [step["persons"] for step in report["attrition"]["enclave"]] == ["hidden", 96, 60]
    assert [lost["persons"] for lost in report["lost_links"]] == ["hidden", 36]
    assert [lost["reason"] for lost in report["lost_links"]] == ["r1", "r2"]


def test_rows_that_count_persons_do_not_give_their_complement_away() -> None:
    report = report_of(delivered(100, 60))
    rows = {entry["table"]: entry["rows"] for entry in report["tables"]}
    assert rows == {"omop/image_occurrence": 90, "omop/cohort": "hidden"}


def test_warnings_are_suppressed_too() -> None:
    text = " ".join(report_of(delivered(100, 60))["warnings"])
    assert "<11 series are left out" in text
    assert "<11 persons have rows in death" in text
    assert "a note" in text


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"side":1}', b"\xff"])
def test_a_malformed_attrition_is_refused(content: bytes) -> None:
    with pytest.raises(PackageRefused):
        attrition_from_bytes(content)
