"""
A researcher's two questions, from the file to the folder inside the enclave, through a real broker.

1. The paper's: chest CT, slice thickness at most 1 mm, 150 kVp, in persons later found to have lung
   cancer, with a creatinine within 30 days of the image.
2. Lung nodules followed over seven visits, to their doubling time.

Person n's data follow from n by the rules of `Made`, each with a value exactly on a bound, so that
who must be delivered is written down here without any of the program's code. Both specifications
are those of docs/specification.md, word for word but for the concept ids' names.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from linkage.cohort.spec import CohortSpec, load_spec
from linkage.errors import SourceRefused
from sites.answers import answer_imaging, send_rows
from sites.asking import ask, read_counts
from sites.enclave import Joined, count, join
from sites.questions import decide
from tests.broker_world import make_world, running
from tests.cohort_world import Sites

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[2] / "docs" / "specification.md"
LUNG_CT, NODULES = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[:2]
LUNG_CANCER, CARCINOMA, CREATININE = 443388, 4115276, 3016723
SUBJECTS, PERSONS = range(400), range(60, 460)
VISITS, WEEKS_APART, DOUBLING_DAYS = 7, 26, 364
FIRST_DAY = dt.date(2015, 1, 1)
FURTHEST = 12
"""A count that is told moves by up to 10 persons and is then rounded to a multiple of 5."""


class Made:
    """What person n's records say. Bounds of the questions are met exactly by some."""

    @staticmethod
    def image(n: int) -> dict[str, Any]:
        """The CT of question 1; of each ten, four miss it by one criterion each."""
        day = FIRST_DAY + dt.timedelta(days=n)
        thin = {"SliceThickness": 1.0 if n % 2 else 0.625, "KVP": 150.0}
        missed: dict[int, dict[str, Any]] = {
            0: {"SliceThickness": 1.25},
            1: {"KVP": 120.0},
            2: {"Modality": "MR"},
            3: {"BodyPartExamined": "ABDOMEN"},
        }
        base = {"Modality": "CT", "BodyPartExamined": "CHEST", "StudyDate": day.isoformat()}
        return base | thin | missed.get(n % 10, {})

    @staticmethod
    def fits_image(n: int) -> bool:
        return n % 10 > 3

    @staticmethod
    def cancer_after(n: int) -> int | None:
        """Days from the image to the diagnosis; of each four one before, one on the day."""
        return {0: 1, 1: 400, 2: 0, 3: -100}[n % 4]

    @staticmethod
    def creatinine_after(n: int) -> int | None:
        return {0: 30, 1: -30, 2: 31, 3: -31, 4: 0}.get(n % 7)

    @classmethod
    def fits_lung(cls, n: int) -> bool:
        return cls.fits_image(n) and n % 4 in (0, 1) and n % 7 in (0, 1, 4)

    @staticmethod
    def visits(n: int) -> int:
        """CTs of question 2: seven, or six, or none."""
        return {0: VISITS, 2: VISITS - 1, 4: VISITS}.get(n % 6, 0)

    @staticmethod
    def nodules_seen(n: int) -> int:
        """Visits with a nodule of at least 4 mm: one of seven is too small where n % 6 is 4."""
        return VISITS - 1 if n % 6 == 4 else Made.visits(n)

    @staticmethod
    def birth_year(n: int) -> int:
        return 1990 if n % 5 == 0 else 1950

    @classmethod
    def fits_nodules(cls, n: int) -> bool:
        return n % 6 == 0 and n % 5 != 0

    @staticmethod
    def diameter(n: int, visit: int) -> float:
        """In mm: the volume, which goes with its cube, doubles in DOUBLING_DAYS."""
        days = visit * WEEKS_APART * 7
        grown = 4.0 * 2 ** (days / DOUBLING_DAYS / 3)
        return 3.9 if n % 6 == 4 and visit == 3 else grown


def write_images(folder: Path) -> None:
    series, features = [], []
    for n in SUBJECTS:
        own = {"PatientID": f"case-{n}", "collection_id": "made", "Manufacturer": "MAKER"}
        uids = {"StudyInstanceUID": f"1.2.{n}.0", "SeriesInstanceUID": f"1.3.{n}.0"}
        series.append(own | uids | Made.image(n))
        for visit in range(Made.visits(n)):
            study, one = f"1.2.{n}.{visit + 1}", f"1.3.{n}.{visit + 1}"
            day = FIRST_DAY + dt.timedelta(weeks=WEEKS_APART * visit)
            ct = {"Modality": "CT", "BodyPartExamined": "LUNG", "StudyDate": day.isoformat()}
            thick = {"SliceThickness": 2.5, "KVP": 120.0}
            uids = {"StudyInstanceUID": study, "SeriesInstanceUID": one}
            series.append(own | uids | ct | thick)
            nodule = {"finding": "Nodule", "feature": "Diameter", "unit": "mm", "source": "SR"}
            where = {"study_uid": study, "series_uid": one, "tracking_id": f"lesion-{n}"}
            features.append(nodule | where | {"value": Made.diameter(n, visit)})
    pq.write_table(pa.Table.from_pylist(series), folder / "imaging_series.parquet")
    pq.write_table(pa.Table.from_pylist(features), folder / "features.parquet")


def write_omop(folder: Path) -> None:
    def save(name: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
        names = columns.split()
        table = pa.table({c: [row[i] for row in rows] for i, c in enumerate(names)})
        pacsv.write_csv(table, folder / f"{name}.csv")

    for path in folder.iterdir():
        path.unlink()
    save(
        "person",
        "person_id gender_concept_id year_of_birth month_of_birth day_of_birth race_concept_id"
        " ethnicity_concept_id",
        [(n, 8532 if n % 3 else 8507, Made.birth_year(n), 6, 1, 8527, 0) for n in PERSONS],
    )
    save(
        "observation_period",
        "observation_period_id person_id observation_period_start_date"
        " observation_period_end_date period_type_concept_id",
        [(n, n, "2010-01-01", "2022-12-31", 32817) for n in PERSONS],
    )
    image = {n: FIRST_DAY + dt.timedelta(days=n) for n in PERSONS}
    save(
        "condition_occurrence",
        "condition_occurrence_id person_id condition_concept_id condition_start_date"
        " condition_type_concept_id",
        [
            (n, n, CARCINOMA, image[n] + dt.timedelta(days=days), 32817)
            for n in PERSONS
            if (days := Made.cancer_after(n)) is not None
        ],
    )
    save(
        "measurement",
        "measurement_id person_id measurement_concept_id measurement_date value_as_number"
        " measurement_type_concept_id",
        [
            (n, n, CREATININE, image[n] + dt.timedelta(days=days), 1.1, 32817)
            for n in PERSONS
            if (days := Made.creatinine_after(n)) is not None
        ],
    )
    save(
        "concept_ancestor",
        "ancestor_concept_id descendant_concept_id min_levels_of_separation"
        " max_levels_of_separation",
        [(LUNG_CANCER, LUNG_CANCER, 0, 0), (LUNG_CANCER, CARCINOMA, 1, 1)],
    )


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("questions")
    with running(make_world(folder)) as world:
        made = Sites(world, folder / "asked", imaging=SUBJECTS, enclave=PERSONS)
        write_images(made.folder)
        write_omop(made.folder / "omop")
        state_dates(made, "true")
        yield made
        made.close()


def state_dates(sites: Sites, frame: str) -> None:
    """Let the commons' site file state the frame of its dates, and its table of features."""
    path = sites.site_file("imaging")
    text = re.sub(r'date_frame = "\w+"', f'date_frame = "{frame}"', path.read_text())
    if "features" not in text:
        text = text.replace("[imaging]", f'[imaging]\nfeatures = "{sites.folder}/features.parquet"')
    path.write_text(text)


def asked(sites: Sites, text: str) -> tuple[CohortSpec, str]:
    """Ask as a researcher does, with a file; return the specification and the question's ID."""
    path = sites.folder / "cohort.toml"
    path.write_text(text)
    spec = load_spec(path)
    with sites.session("enclave") as session:
        made = ask(session, spec, sites.run["run_id"], folder=sites.folder / "keys")
    done = sites.world.finish(f"{sites.world.path}/jobs/{made.job.job_id}")
    assert done["state"] == "done", done
    return spec, made.job.job_id


def counted(sites: Sites, question: str) -> tuple[int, dict[str, Any]]:
    """Let the commons answer and the enclave count; return the number and what a reader is told."""
    with sites.session("imaging") as session:
        decide(session, question, "approve")
        answer_imaging(session, question)
    with sites.session("enclave") as session:
        exact = count(session, question).exact
        return exact, read_counts(session, question, sites.folder / "keys")


def delivered(sites: Sites, question: str, out: Path) -> Joined:
    with sites.session("enclave") as session:
        decide(session, question, "approve")
    delivery_id = sites.deliver(question)
    with sites.session("imaging") as session:
        send_rows(session, question, delivery_id)
    with sites.session("enclave") as session:
        return join(session, question, out)


def rows(made: Joined, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(made.delivery.folder / path).to_pylist()
    return found


def people(made: Joined) -> dict[int, int]:
    """Return person n by the delivery's person_id."""
    of = rows(made, "side/cohort_person.parquet")
    return {row["person_id"]: int(made.record_of[row["cohort_id"]]) for row in of}


BOTH = sorted(set(SUBJECTS) & set(PERSONS))


def test_the_papers_question(sites: Sites, tmp_path: Path) -> None:
    spec, question = asked(sites, LUNG_CT)
    assert spec.imaging.dates
    exact, told = counted(sites, question)
    wanted = {n for n in BOTH if Made.fits_lung(n)}
    assert exact == len(wanted) > 31, "a number whatever the blur"
    assert abs(told["persons"] - exact) <= FURTHEST
    made = delivered(sites, question, tmp_path / "cohort")
    assert set(people(made).values()) == wanted
    images = rows(made, "omop/image_occurrence.parquet")
    got = {(people(made)[row["person_id"]], row["image_series_uid"]) for row in images}
    assert got == {(n, f"1.3.{n}.0") for n in wanted}
    by_series = {row["image_series_uid"]: row for row in images}
    for n in wanted:
        assert by_series[f"1.3.{n}.0"]["image_occurrence_date"] == FIRST_DAY + dt.timedelta(days=n)


def test_nodules_over_seven_visits_to_their_doubling_time(sites: Sites, tmp_path: Path) -> None:
    _, question = asked(sites, NODULES)
    exact, told = counted(sites, question)
    wanted = {n for n in BOTH if Made.fits_nodules(n)}
    assert exact == len(wanted) > 31
    assert abs(told["persons"] - exact) <= FURTHEST
    made = delivered(sites, question, tmp_path / "cohort")
    assert set(people(made).values()) == wanted
    episodes = {row["episode_id"]: row for row in rows(made, "omop/episode.parquet")}
    assert len(episodes) == len(wanted)
    values = {row["measurement_id"]: row for row in rows(made, "omop/measurement.parquet")}
    followed: dict[int, list[tuple[dt.date, float]]] = {}
    for event in rows(made, "omop/episode_event.parquet"):
        value = values[event["event_id"]]
        assert value["person_id"] == episodes[event["episode_id"]]["person_id"]
        seen = (value["measurement_date"], value["value_as_number"])
        followed.setdefault(event["episode_id"], []).append(seen)
    for seen in followed.values():
        assert len(seen) == VISITS
        (first, small), *_, (last, large) = sorted(seen)
        # A volume goes with the cube of its diameter, Schwartz 1961, Cancer 14:1272.
        doublings = 3 * math.log2(large / small)
        assert (last - first).days / doublings == pytest.approx(DOUBLING_DAYS)


def test_days_are_never_counted_from_shifted_dates(sites: Sites) -> None:
    state_dates(sites, "shifted")
    try:
        _, question = asked(sites, LUNG_CT.replace('id = "lung-ct"', 'id = "shifted"'))
        with sites.session("imaging") as session:
            decide(session, question, "approve")
            with pytest.raises(SourceRefused, match="frame 'shifted'"):
                answer_imaging(session, question)
    finally:
        state_dates(sites, "true")
