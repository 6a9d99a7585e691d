"""
`linkage-site demo`: simulated people at three commons, ready to rehearse.

    demo-out/commons/          identifiers, truth, OMOP tables, image index: all simulated
    demo-out/commons/settings/ the study, site and cohort files of configs/three-commons
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import sites
from linkage.errors import Conflict, NotFound
from linkage.evaluation.people import Holdings, simulate, write_parties
from sites.cohort.sample import SamplePerson, write_sample
from sites.rehearsal import RehearsalPlan

PARTIES = ("imaging", "enclave", "claims")
_FILES = {"imaging": "imaging_pii.psv", "enclave": "enclave_pii.csv", "claims": "claims_pii.csv"}


@dataclass(frozen=True, slots=True)
class PreparedDemo:
    """Everything the rehearsal of the demo needs."""

    plan: RehearsalPlan
    truth: Path
    cohort: Path


def prepare_demo(out: Path, persons: int, seed: int) -> PreparedDemo:
    """
    Write simulated commons into `out/commons`, in place of an earlier demo's.

    Raises Conflict if `out` holds anything that no demo made.
    """
    commons, settings = out / "commons", out / "commons" / "settings"
    _make_room(out)
    people = simulate(persons, seed)
    paths = write_parties(people, commons)
    for party, name in _FILES.items():
        paths[party].rename(commons / name)
    write_sample(
        commons,
        imaging=_sample(people.holdings("imaging")),
        enclave=_sample(people.holdings("enclave")),
        seed=seed,
    )
    shutil.copytree(_settings(), settings)
    _declare(settings / "study.toml", persons)
    plan = RehearsalPlan(
        study_file=settings / "study.toml",
        site_files=tuple(settings / f"{party}.toml" for party in PARTIES),
        out=out,
    )
    return PreparedDemo(plan, commons / "truth.csv", settings / "cohort.toml")


def _declare(study_file: Path, persons: int) -> None:
    """Raise the declared sizes where the demo simulates more people than the example declares."""
    text = study_file.read_text(encoding="utf-8")
    most = 2 * persons  # a commons holds a person twice now and then, never all of them

    def raised(found: re.Match[str]) -> str:
        return found[0] if int(found[1]) >= most else f"records = {most}"

    text = re.sub(r"^records = ([\d_]+)", raised, text, flags=re.MULTILINE)
    study_file.write_text(text, encoding="utf-8")


def _sample(held: Holdings) -> list[SamplePerson]:
    return [
        SamplePerson(str(record_id), "m" if male else "f", int(year))
        for record_id, male, year in zip(held.record_ids, held.male, held.birth_year, strict=True)
    ]


def _make_room(out: Path) -> None:
    made = ("commons", "cohort", "ids", "rehearsal", "report.json", "report.html")
    if out.exists() and (foreign := [p.name for p in out.iterdir() if p.name not in made]):
        raise Conflict(
            f"{out} holds {len(foreign)} files that no demo made",
            hint="name a new folder with --out",
        )
    for name in made:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _settings() -> Path:
    """Return the example's settings: inside an installed package, else in the checkout."""
    package = Path(sites.__file__).parent
    for folder in (package / "settings", package.parent / "configs" / "three-commons"):
        if (folder / "study.toml").exists():
            return folder
    raise NotFound("the demo's settings are not installed", hint="install commons-linkage again")
