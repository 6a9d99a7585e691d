"""
A whole linkage on one machine: every actor's real code, the real broker over HTTP.

    keys -> sign -> broker starts -> tokenize -> upload -> run -> release -> IDs -> report

Where the study allows second looks, every site answers them as the run asks. With `compare_looks`
the people are linked without one first, so that the report can say what it gave.

For trying a study before agreements are signed, and for the demo. The signed study is marked
as a rehearsal, because one installation plays custodian, broker and every site.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError, SiteRefused, SourceRefused, Unreachable
from linkage.messages import CUSTODIAN, JobState, ReleaseRequest
from linkage.run_messages import RunRequest, RunState
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy
from linkage.study import StudyConfig, load_study
from sites import custody
from sites.client import BrokerClient
from sites.config import SiteConfig, load_site
from sites.crosswalk import fetch_ids, write_ids
from sites.local_broker import ADMIN, LocalBroker
from sites.second_looks import Outcome, answer_looks
from sites.session import Session, require_actor
from sites.tokenized import TokenizeSummary
from sites.tokenizer import tokenize
from sites.upload import submit_dataset
from sites.vault import Vault

_AUDIENCE = "commons-linkage-broker"
_POLL_S = 0.1
SECOND_LOOK_STAGE = "second look"
"""Name of the stage in which a run waits for its sites, as `RunState` has it."""


class Observer(Protocol):
    """Whoever shows progress: told of each stage's start, of its share done, and its end."""

    def stage(self, name: str) -> None: ...

    def progress(self, share: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalPlan:
    """
    What to rehearse. keep: keep the folder `out/rehearsal` of keys, packages and the broker; it is
    also kept where the broker fails, for its logs.
    """

    study_file: Path
    site_files: tuple[Path, ...]
    out: Path
    database_url_file: Path | None = None
    keep: bool = False


@dataclass(slots=True)
class Rehearsed:
    """
    What came of it. ids: by party, record id -> cross-commons ID. tokenized: by uploader.
    seconds: by stage. looks: by uploader, its answer to the second look. unlooked: the same people
    linked without one, where that was asked for.
    """

    ids: dict[str, dict[str, str]]
    run: RunState
    tokenized: dict[str, TokenizeSummary]
    seconds: dict[str, float] = field(default_factory=dict)
    looks: dict[str, Outcome] = field(default_factory=dict)
    unlooked: Rehearsed | None = None


@dataclass(slots=True)
class Actors:
    """
    Everyone in a rehearsal, ready to act; also given to what follows the linkage.

    sessions: by party, those who receive. uploaders: those who tokenize; the party itself or its
    contributors.
    """

    signed: SignedStudy
    sessions: dict[str, Session]
    uploaders: dict[str, Session]
    broker: LocalBroker
    admin: BrokerClient
    watch: Stopwatch


class Stopwatch:
    """Seconds by stage, told to the observer as they pass."""

    def __init__(self, observer: Observer) -> None:
        self.seconds: dict[str, float] = {}
        self.observer = observer

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.observer.stage(name)
        start = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)


@contextmanager
def actors(plan: RehearsalPlan, observer: Observer) -> Iterator[Actors]:
    """Make everyone's keys, sign the study and start the broker, for the time of the context."""
    watch = Stopwatch(observer)
    study = load_study(plan.study_file)
    sites = _sites(plan, study)
    work = plan.out / "rehearsal"
    _make_room(plan.out, work)
    keep = plan.keep
    try:
        with watch.stage("keys"):
            broker = LocalBroker(work / "broker", database_url_file=plan.database_url_file)
            signed, vaults = _exchange_keys(plan, work, study, broker)
        with watch.stage("broker start"):
            broker.__enter__()
        try:
            yield _connect(signed, sites, vaults, broker, watch)
        finally:
            broker.__exit__(None, None, None)
    except Unreachable:
        keep = True  # the error names the broker's logs
        raise
    finally:
        if not keep:
            shutil.rmtree(work)


def link(people: Actors, *, compare_looks: bool = False) -> Rehearsed:
    """
    Tokenize, upload, run, release and fetch IDs. Raises LinkageError for what goes wrong.

    compare_looks: link without a second look first; the newest run is the one with it.
    """
    watch = people.watch
    tokenized = {}
    with watch.stage("tokenize"):
        for i, (uploader, session) in enumerate(people.uploaders.items()):
            source = session.site.source
            tokenized[uploader] = tokenize(
                source, uploader, people.signed, session.vault, strata=session.site.strata
            )
            watch.observer.progress((i + 1) / len(people.uploaders))
    with watch.stage("upload"):
        for uploader, done in tokenized.items():
            submit_dataset(people.uploaders[uploader], done.dataset)
    unlooked = None
    if compare_looks and people.signed.study.looks:
        with watch.stage("without second look"):
            run, _ = _run(people, second_look=False)
            unlooked = Rehearsed(_released(people, run), run, tokenized)
    with watch.stage("run"):
        run, looks = _run(people)
    for stage, spent in run.seconds.items():
        watch.seconds[f"run: {stage}"] = round(spent, 3)
    with watch.stage("release"):
        ids = _released(people, run)
    return Rehearsed(ids, run, tokenized, watch.seconds, looks, unlooked)


def checked(plan: RehearsalPlan) -> dict[str, object]:
    """Check study and site files as a rehearsal would; return what it would do."""
    study = load_study(plan.study_file)
    sites = _sites(plan, study)
    rows: dict[str, object] = {
        uploader: f"{len(study.party_of_uploader(uploader).fields)} fields, from its site file"
        for uploader in sites
        if uploader in study.uploaders
    }
    return {"study": study.study.title, **rows, "folder": plan.out}


def save_ids(rehearsed: Rehearsed, out: Path) -> None:
    """Write `ids/<party>.csv` for every party."""
    for party, ids in rehearsed.ids.items():
        write_ids(ids, out / "ids" / f"{party}.csv")


def wait_for_job(people: Actors, job: JobState) -> JobState:
    """Wait until a release, question or delivery is ready. Raises LinkageError if it failed."""
    study = people.signed.study.study.id
    while job.state in ("queued", "running"):
        people.broker.check()
        time.sleep(_POLL_S)
        job = people.admin.job(study, job.job_id)
    if job.state == "failed":
        raise LinkageError(f"the {job.kind} failed: {job.failure}")
    return job


def _run(people: Actors, *, second_look: bool = True) -> tuple[RunState, dict[str, Outcome]]:
    """Run the linkage to its end; every site answers what it is asked meanwhile."""
    watch, study = people.watch, people.signed.study.study.id
    run = people.admin.start_run(study, RunRequest(second_look=second_look))
    looks: dict[str, Outcome] = {}
    shown = ""
    while run.state in ("queued", "running"):
        people.broker.check()
        time.sleep(_POLL_S)
        run = people.admin.run(study, run.run_id)
        if run.stage != shown:
            watch.observer.stage(f"run: {run.stage}")
            shown = run.stage
        watch.observer.progress(run.progress)
        if run.stage == SECOND_LOOK_STAGE:
            _answer(people, looks)
    if run.state != "done":
        raise LinkageError(f"the run {run.state}: {run.failure}")
    return run, looks


def _answer(people: Actors, looks: dict[str, Outcome]) -> None:
    """Let the sites that have not answered yet do so. Raises what one of them refuses."""
    for uploader, session in people.uploaders.items():
        for outcome in answer_looks(session) if uploader not in looks else ():
            if outcome.fault is not None:
                raise outcome.fault
            looks[uploader] = outcome


def _released(people: Actors, run: RunState) -> dict[str, dict[str, str]]:
    """Release a run's IDs to every party; return them by party and record id."""
    request = ReleaseRequest(run_id=run.run_id, audience=tuple(people.sessions))
    study = people.signed.study.study.id
    release = wait_for_job(people, people.admin.start_release(study, request))
    return {party: fetch_ids(session, release.job_id) for party, session in people.sessions.items()}


def _require_there(site: SiteConfig, site_file: Path) -> None:
    """Raises SourceRefused where the file or folder of records is not there, before all else."""
    place = getattr(site.source, "file", None) or getattr(site.source, "folder", None)
    if isinstance(place, Path) and not place.exists():
        raise SourceRefused(
            file=str(place),
            rule="there is no such file or folder",
            hint=f"check [source] of {site_file}",
        )


def _sites(plan: RehearsalPlan, study: StudyConfig) -> dict[str, SiteConfig]:
    """
    Return the site file of every actor: parties and contributors, in the study's order.

    Every uploader needs one. A commons with contributors may have one, where it answers cohort
    questions; else it only receives.
    """
    found: dict[str, SiteConfig] = {}
    for path in plan.site_files:
        site = load_site(path)
        require_actor(site, study, path)
        if site.uploader in found:
            raise SiteRefused(
                file=str(path),
                line=0,
                key="party",
                rule=f"two site files are of party {site.uploader!r}",
                hint=f"give one each for: {', '.join(study.uploaders)}",
            )
        _require_there(site, path)
        found[site.uploader] = site
    if missing := [one for one in study.uploaders if one not in found]:
        raise SiteRefused(
            file=str(plan.study_file),
            line=0,
            key="party",
            rule=f"no site file for {', '.join(missing)}",
            hint="give one --site for every party of the study, or for each of its contributors",
        )
    return {one: found.get(one) or SiteConfig(party=one) for one in study.actors}


def _make_room(out: Path, work: Path) -> None:
    if work.exists():
        shutil.rmtree(work)
    if (out / "ids").exists():
        shutil.rmtree(out / "ids")
    (out / "pairs.csv").unlink(missing_ok=True)
    work.mkdir(parents=True, mode=0o700)


def _exchange_keys(
    plan: RehearsalPlan, work: Path, study: StudyConfig, broker: LocalBroker
) -> tuple[SignedStudy, dict[str, Vault]]:
    custodian, key = Identity.generate(CUSTODIAN), StudyKey.generate()
    vaults = {actor: Vault(work / "sites" / actor) for actor in study.actors}
    public_files = [broker.home / "public.json"]
    for actor, vault in vaults.items():
        identity = Identity.generate(actor)
        vault.keep_identity(identity)
        public = vault.folder / "public.json"
        public.write_text(identity.public().model_dump_json(), encoding="utf-8")
        public_files.append(public)
    signed = custody.sign(plan.study_file, public_files, key, custodian, rehearsal=True)
    for vault in vaults.values():
        vault.signed_study_file.write_text(signed.model_dump_json(), encoding="utf-8")
    for uploader in study.uploaders:
        vault = vaults[uploader]
        sealed = custody.seal_key(signed, key, custodian, uploader)
        vault.keep_study_key(custody.open_key(sealed, signed, uploader, vault.identity()))
    return signed, vaults


def _connect(
    signed: SignedStudy,
    sites: dict[str, SiteConfig],
    vaults: dict[str, Vault],
    broker: LocalBroker,
    watch: Stopwatch,
) -> Actors:
    def client(subject: str, identity: Identity) -> BrokerClient:
        return BrokerClient(broker.url, subject, identity, audience=_AUDIENCE)

    admin = client(f"admin/{ADMIN}", broker.admin)
    admin.register_study(signed, signed.pin(CUSTODIAN).fingerprint)
    study = signed.study
    sessions = {}
    for actor, site in sites.items():
        identity = vaults[actor].identity()
        to_broker = client(f"{study.study.id}/{actor}", identity)
        sessions[actor] = Session(site, vaults[actor], signed, identity, to_broker)
    return Actors(
        signed,
        {party.id: sessions[party.id] for party in study.party},
        {uploader: sessions[uploader] for uploader in study.uploaders},
        broker,
        admin,
        watch,
    )
