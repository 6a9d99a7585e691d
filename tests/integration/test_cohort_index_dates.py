"""
Images dated in days from an index event, as MIDRC has them, through a real broker: counted,
delivered and dated by the enclave's own record of that event, person by person.

Person n was tested on day FIRST + n (`day_of_test`), has a CT `study_day` days from there and the
condition `after` days from the CT: so who must be delivered is written down here, in dates that
the imaging commons never had.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from linkage.errors import SourceRefused
from linkage.messages import QUESTION_ANSWER
from sites.answers import answer_imaging, send_rows
from sites.enclave import Joined, count, join
from sites.questions import decide
from tests.broker_world import make_world, running
from tests.cohort_world import Sites

pytestmark = pytest.mark.long

SUBJECTS, PERSONS = range(90), range(30, 120)
BOTH = sorted(set(SUBJECTS) & set(PERSONS))
EVENT, TEST, CONDITION = "COVID-19 Test", 1_999_000_001, 1_999_000_002
FIRST = dt.date(2020, 3, 1)
WITHIN = {"min": 1, "max": 30}
ASKED: dict[str, Any] = {
    "concepts": [
        {
            "domain": "condition",
            "concept_id": [CONDITION],
            "descendants": False,
            "days_from_imaging": WITHIN,
        }
    ],
    "index": "imaging",
}


def day_of_test(n: int) -> dt.date | None:
    """The day of the first test that the enclave knows of; some it does not know."""
    return None if n % 5 == 0 else FIRST + dt.timedelta(days=n)


def study_day(n: int) -> int:
    return n % 7 - 3


def after(n: int) -> int:
    """Days from the CT to the condition; both bounds are met exactly by some."""
    return {0: 1, 1: 30, 2: 31, 3: 0}[n % 4]


def fits(n: int) -> bool:
    return day_of_test(n) is not None and n % 4 in (0, 1)


def ct_of(n: int) -> dt.date:
    return FIRST + dt.timedelta(days=n + study_day(n))


def write_images(folder: Path, event: dict[int, str]) -> None:
    """Write the commons' node exports. event: the index event of a case, where it is not EVENT."""
    cases = [{"submitter_id": f"case-{n}", "index_event": event.get(n, EVENT)} for n in SUBJECTS]
    studies = [
        {"submitter_id": f"S{n}", "cases.submitter_id": f"case-{n}"}
        | {"study_uid": f"1.2.{n}", "days_to_study": str(study_day(n))}
        for n in SUBJECTS
    ]
    files = [
        {"submitter_id": f"F{n}", "imaging_studies.submitter_id": f"S{n}", "data_format": "DCM"}
        | {"series_uid": f"1.2.{n}.1", "modality": "CT"}
        for n in SUBJECTS
    ]
    folder.mkdir()
    nodes = {"case": cases, "imaging_study": studies, "ct_series_file": files}
    for node, rows in nodes.items():
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
        (folder / f"{node}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_omop(folder: Path) -> None:
    procedures = ["procedure_occurrence_id,person_id,procedure_concept_id,procedure_date"]
    procedures[0] += ",procedure_type_concept_id"
    conditions = ["condition_occurrence_id,person_id,condition_concept_id,condition_start_date"]
    conditions[0] += ",condition_type_concept_id"
    for n in PERSONS:
        if day := day_of_test(n):
            # Tested twice: the first record is the index event.
            again = day + dt.timedelta(days=40)
            procedures += [f"{n},{n},{TEST},{day},0", f"{n + 500},{n},{TEST},{again},0"]
        conditions.append(f"{n},{n},{CONDITION},{ct_of(n) + dt.timedelta(days=after(n))},0")
    (folder / "procedure_occurrence.csv").write_text("\n".join(procedures) + "\n")
    (folder / "condition_occurrence.csv").write_text("\n".join(conditions) + "\n")


def state(sites: Sites, *, mapped: bool, nodes: str = "gen3") -> None:
    """Write both site files; mapped: whether the enclave says which record the event is."""
    known = f'[omop.index_events."{EVENT}"]\ndomain = "procedure"\nconcept_id = {TEST}\n'
    sites.write_site("enclave", "", known + "descendants = false\n" if mapped else "")
    sites.write_site("imaging")
    path = sites.site_file("imaging")
    series = f'file = "{sites.folder}/imaging_series.parquet"\ndate_frame = "shifted"\n'
    text = path.read_text()
    assert series in text
    gen3 = f'kind = "gen3"\npath = "{sites.folder / nodes}"\n'
    path.write_text(text.replace(series, gen3))


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("index")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "index", imaging=SUBJECTS, enclave=PERSONS)
        write_images(made.folder / "gen3", {})
        write_images(made.folder / "two-events", {40: "Imaging Study"})
        write_omop(made.folder / "omop")
        yield made
        made.close()


def approved(sites: Sites, clinical: dict[str, Any]) -> str:
    imaging = {"modality": ["CT"], "dates": "concepts" in clinical}
    question = sites.ask(imaging=imaging, clinical=clinical)
    for party in ("imaging", "enclave"):
        with sites.session(party) as site:
            decide(site, question, "approve")
    return question


def delivered(sites: Sites, question: str, out: Path) -> Joined:
    delivery = sites.deliver(question)
    with sites.session("imaging") as imaging:
        send_rows(imaging, question, delivery)
    with sites.session("enclave") as enclave:
        return join(enclave, question, out)


def images_of(made: Joined) -> dict[int, dict[str, Any]]:
    """Return by person n the image row, with what the side table says of its date."""
    read = {
        path: pq.read_table(made.delivery.folder / f"{path}.parquet").to_pylist()
        for path in ("side/cohort_person", "omop/image_occurrence")
    }
    side = pq.read_table(made.delivery.folder / "side/image_occurrence_provenance.parquet")
    dated = {row["image_occurrence_id"]: row for row in side.to_pylist()}
    of = {r["person_id"]: int(made.record_of[r["cohort_id"]]) for r in read["side/cohort_person"]}
    return {
        of[row["person_id"]]: row | dated[row["image_occurrence_id"]]
        for row in read["omop/image_occurrence"]
    }


def test_days_from_an_index_event_are_counted_and_delivered_as_dates(
    sites: Sites, tmp_path: Path
) -> None:
    state(sites, mapped=True)
    question = approved(sites, ASKED)
    wanted = {n for n in BOTH if fits(n)}
    with sites.session("imaging") as imaging:
        answer = answer_imaging(imaging, question)
        assert (answer.frame, answer.index_event) == ("index", EVENT)
    with sites.session("enclave") as enclave:
        assert count(enclave, question).exact == len(wanted) >= 20
    made = delivered(sites, question, tmp_path / "cohort")
    images = images_of(made)
    assert set(images) == wanted
    for n, row in images.items():
        assert row["image_occurrence_date"] == ct_of(n), n
        assert row["study_day"] == study_day(n)
        assert row["date_confidence"] == "exact to the day of the index event's record"
        assert row["comparable"]
    cohort = pq.read_table(made.delivery.folder / "omop/cohort.parquet").to_pylist()
    of = {row["person_id"]: n for n, row in images.items()}
    assert {of[r["subject_id"]]: r["cohort_start_date"] for r in cohort} == {
        n: ct_of(n) for n in wanted
    }


def test_who_has_no_record_of_the_event_keeps_intervals_only(sites: Sites, tmp_path: Path) -> None:
    state(sites, mapped=True)
    question = approved(sites, {"any": True})
    images = images_of(delivered(sites, question, tmp_path / "cohort"))
    assert set(images) == set(BOTH)
    for n, row in images.items():
        day = day_of_test(n) or dt.date(1900, 1, 1)
        assert row["image_occurrence_date"] == day + dt.timedelta(days=study_day(n))
        assert row["comparable"] == (day_of_test(n) is not None)
        unmapped = row["date_confidence"] == "intervals within the person only"
        assert unmapped == (day_of_test(n) is None)


def test_an_event_that_the_enclave_does_not_name_is_refused(sites: Sites) -> None:
    state(sites, mapped=False)
    question = approved(sites, ASKED)
    with sites.session("imaging") as imaging:
        answer_imaging(imaging, question)
    with (
        sites.session("enclave") as enclave,
        pytest.raises(SourceRefused, match=f"count their days from '{EVENT}', which") as caught,
    ):
        count(enclave, question)
    assert "[omop.index_events]" in caught.value.hint


def test_days_from_two_kinds_of_events_are_refused_before_anything_leaves(sites: Sites) -> None:
    state(sites, mapped=True, nodes="two-events")
    question = approved(sites, ASKED)
    with (
        sites.session("imaging") as imaging,
        pytest.raises(SourceRefused, match="study days that count from 2 index events"),
    ):
        answer_imaging(imaging, question)
    sent = sites.wires["imaging"].puts(QUESTION_ANSWER)
    assert sent
    assert not [one for one in sent if question in one.target]
