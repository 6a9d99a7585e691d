"""
What a question and its delivery show to whom: searched in captured traffic, folders, logs and the
memory of running processes.

Canaries stand in the criteria of both halves and in the rows of every subject. Whatever is searched
for in vain is found elsewhere, where it belongs: else the search would prove nothing.
"""

from __future__ import annotations

import dataclasses
import re
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from linkage import delivery, idtables
from linkage.errors import PackageRefused
from linkage.messages import (
    BROKER,
    DELIVERY_CROSSWALK,
    DELIVERY_ROWS,
    QUESTION_ANSWER,
    QUESTION_COUNTS,
    QUESTION_IDS,
    READER,
)
from linkage.sealing import Context, Identity, unseal
from sites.answer_parts import unpack_answer, unpack_delivery
from sites.questions import decide
from sites.session import Session
from tests.broker_world import World, make_world, running, wait_for
from tests.cohort_world import CONDITION, SERIES_TEXT, Exchange, Sites, numbers_in
from tests.process_memory import memory_of

pytestmark = pytest.mark.long

SUBJECTS = range(60)
BOTH = range(20, 60)
"""People of both sides, of whom nearly all are linked."""

PART = "CANARYPART"
IMAGING = {"modality": ["CT"], "body_part": ["CHEST", PART]}
CLINICAL = {"concepts": [{"domain": "condition", "concept_id": [CONDITION]}]}
OF_SUBJECTS = [
    b"case-17",
    b"case-41",
    SERIES_TEXT.encode(),
    b"CANARYMAKER",
    b"2.25.10",
    b"2.25.20",
    b"s3://made",
]
"""Parts of record ids and rows of the imaging commons."""


def as_concept(number: int) -> list[bytes]:
    """Return a concept id as text and as numbers of a table would hide it."""
    return [str(number).encode(), struct.pack("<q", number), struct.pack(">q", number)]


@dataclass
class Played:
    """
    A study in which one question was asked, answered, counted, delivered and joined.

    exchanges: of the imaging commons up to there. enclave_before: all that was at the enclave once
    it had counted, its process's memory included; enclave_memory: that of the one that joined.
    """

    sites: Sites
    question: str = ""
    delivery: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    enclave_before: bytes = b""
    enclave_memory: bytes = b""

    @property
    def world(self) -> World:
        return self.sites.world


def ask(played: Played, reader: Identity) -> None:
    """Ask; let the imaging commons answer by a process, the enclave count by a service."""
    sites = played.sites
    played.question = sites.ask(imaging=IMAGING, clinical=CLINICAL, reader=reader.public())
    with sites.session("imaging") as session:
        decide(session, played.question, "approve")
    assert sites.agent("imaging") == 0, sites.log("imaging")


def deliver(played: Played) -> None:
    """Approve, deliver, and let the imaging commons send its rows."""
    sites = played.sites
    with sites.session("enclave") as session:
        decide(session, played.question, "approve")
    played.delivery = sites.deliver(played.question)
    assert [event.state for event in sites.look("imaging")] == ["done"]
    played.exchanges = list(sites.wires["imaging"].exchanges)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    folder = tmp_path_factory.mktemp("leaks")
    with running(make_world(folder)) as world:
        yield world, folder


@pytest.fixture(scope="module")
def reader() -> Identity:
    return Identity.generate("reader", kem="X25519")


@pytest.fixture(scope="module")
def hits(broker: tuple[World, Path], reader: Identity) -> Iterator[Played]:
    """Two thirds of the imaging commons' subjects are in the enclave."""
    world, folder = broker
    enclave = range(BOTH.start, BOTH.stop + 20)
    here = folder / "study-hits"
    sites = Sites(dataclasses.replace(world), here, imaging=SUBJECTS, enclave=enclave)
    played = Played(sites)
    ask(played, reader)
    sites.write_site("enclave", 'questions = "auto"')
    agent = sites.start("enclave", "--json")
    wait_for(lambda: '"counts of question"' in sites.log("enclave"), 90)
    played.enclave_before = everything_at(sites, "enclave") + memory_of(agent.pid)
    deliver(played)
    # The service reads its site file anew: from now on it builds cohorts.
    sites.write_site("enclave", 'questions = "auto"\ncohorts = "cohorts"')
    wait_for(lambda: '"cohort of delivery"' in sites.log("enclave"), 90)
    played.enclave_memory = memory_of(agent.pid)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(180) == 0, sites.log("enclave")
    sites.world.processes.remove(agent)
    assert '"failed"' not in sites.log("enclave"), sites.log("enclave")
    yield played
    sites.close()


@pytest.fixture(scope="module")
def misses(broker: tuple[World, Path], reader: Identity) -> Iterator[Played]:
    """Nobody of the imaging commons is in the enclave."""
    world, folder = broker
    enclave = range(500, 560)
    here = folder / "study-miss"
    sites = Sites(dataclasses.replace(world), here, imaging=SUBJECTS, enclave=enclave)
    played = Played(sites)
    ask(played, reader)
    sites.write_site("enclave", 'questions = "auto"')
    assert [event.state for event in sites.look("enclave")] == ["waits"], "for the reader"
    deliver(played)
    yield played
    sites.close()


def everything_at(sites: Sites, party: str) -> bytes:
    """Return what a site's processes said and heard, wrote and printed: its wire, files, log."""
    wire = b"".join(one.everything for one in sites.wires[party].exchanges)
    return b"\0".join([wire, files_in(sites.folder / party)])


def files_in(folder: Path) -> bytes:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"\0".join(bytes(path) + b"\0" + path.read_bytes() for path in paths)


def found(needles: Iterable[bytes], data: bytes) -> list[bytes]:
    low = data.lower()
    return [one for one in needles if one in data or one.lower() in low]


def received(session: Session, purpose: str, subject: str, sender: str = BROKER) -> bytes:
    return session.receive(purpose, subject=subject, sender=sender)[1]


@pytest.mark.threat("T11")
def test_the_imaging_commons_reads_nothing_of_the_clinical_half(
    hits: Played, record_property: Callable[[str, object], None]
) -> None:
    """Nor of persons: what it fetched, also what it can open, what it keeps, what it prints."""
    sites = hits.sites
    seen = everything_at(sites, "imaging")
    with sites.session("imaging") as session:
        for item in session.broker.inbox(session.study_id):
            sealed = session.broker.fetch(session.study_id, item)
            context = Context(
                session.study_id, item.sender, "imaging", item.purpose, (item.subject,)
            )
            pin = session.signed.pin(item.sender)
            seen += unseal(sealed, sender=pin, recipient=session.identity, context=context)
    record_property("bytes searched", len(seen))
    assert found([hits.question.encode(), b'"imaging"', PART.encode()], seen), "this is the search"
    assert found(as_concept(CONDITION), seen) == []
    assert found([b"CANARYCODE", b"concept_id"], seen) == []
    with sites.session("enclave") as session:
        state = session.broker.question(session.study_id, hits.question)
    assert str(CONDITION) in str(state.clinical)
    assert state.clinical_salt
    assert state.clinical_salt.encode() not in seen
    assert found(as_concept(CONDITION), hits.enclave_before) != []


@pytest.mark.threat("T11")
def test_the_enclave_reads_nothing_of_the_imaging_half_before_delivery(hits: Played) -> None:
    """Its wire, folder, log and memory after it counted, and the answer that it opened."""
    with hits.sites.session("enclave") as session:
        answer = received(session, QUESTION_ANSWER, hits.question, "imaging")
    with hits.sites.session("imaging") as session:
        state = session.broker.question(session.study_id, hits.question)
    assert PART in str(state.imaging)
    assert state.imaging_salt
    needles = [PART.encode(), state.imaging_salt.encode(), *OF_SUBJECTS]
    assert found([hits.question.encode()], hits.enclave_before)
    assert found(needles, answer) == []
    assert found(needles, hits.enclave_before) == []


@pytest.mark.threat("T11")
def test_rows_of_unmatched_subjects_stay_closed_in_the_enclave(
    hits: Played, record_property: Callable[[str, object], None]
) -> None:
    """Every key that it has, tried on every subject's rows; and all that its memory held."""
    with hits.sites.session("enclave") as session:
        packed = received(session, DELIVERY_ROWS, hits.delivery, "imaging")
        crosswalk = received(session, DELIVERY_CROSSWALK, hits.delivery)
    table = idtables.unpack(crosswalk, idtables.DELIVERY_CROSSWALK)
    keys = [key.tobytes() for key in table["row_key"]]
    bundle = list(delivery.unpack_rows(unpack_delivery(packed)[2]))
    opened: set[int] = set()
    closed = 0
    for row_id, encrypted in bundle:
        texts = [text for key in keys if (text := _opened(key, row_id, encrypted)) is not None]
        closed += not texts
        opened |= {n for text in texts for n in numbers_in(text, SERIES_TEXT)}
    fitting = {p for p in SUBJECTS if p % 3}
    assert len(bundle) == len(fitting), "rows of every subject that fits, matched or not"
    assert opened == fitting & linked(hits)
    assert closed == len(bundle) - len(opened)
    assert min(len(opened), closed) >= 8
    record_property("rows that no key of the enclave opens", closed)
    for place in (hits.enclave_memory, everything_at(hits.sites, "enclave")):
        assert numbers_in(place, SERIES_TEXT) <= opened
    assert numbers_in(hits.enclave_memory, SERIES_TEXT), "the memory of what it did open"


def linked(played: Played) -> set[int]:
    """Return the subjects whom the broker holds for persons of the enclave, by question IDs."""
    both = []
    for party in ("imaging", "enclave"):
        with played.sites.session(party) as session:
            table = idtables.unpack(
                received(session, QUESTION_IDS, played.question), idtables.QUESTION_IDS
            )
            names = session.vault.load_map(1)
        both.append(
            {
                one.tobytes(): names[pseudonym.tobytes()]
                for one, pseudonym in zip(
                    table["question_id"], table["record_pseudonym"], strict=True
                )
            }
        )
    subjects, persons = both
    return {int(name.removeprefix("case-")) for one, name in subjects.items() if one in persons}


def _opened(key: bytes, row_id: bytes, encrypted: bytes) -> bytes | None:
    try:
        return delivery.decrypt_rows(key, row_id, encrypted)
    except PackageRefused:
        return None


@pytest.mark.threat("T11")
def test_the_broker_holds_nothing_of_who_qualified_or_matched_clinically(
    hits: Played, misses: Played, reader: Identity, record_property: Callable[[str, object], None]
) -> None:
    """Its database, blobs and logs, and the memory of its server and worker while they run."""
    with hits.sites.session("enclave") as session:
        answer = received(session, QUESTION_ANSWER, hits.question, "imaging")
        mine = idtables.unpack(
            received(session, QUESTION_IDS, hits.question), idtables.QUESTION_IDS
        )
        counts = _counts(session, hits.question, reader)
    with hits.sites.session("imaging") as session:
        theirs = idtables.unpack(
            received(session, QUESTION_IDS, hits.question), idtables.QUESTION_IDS
        )
    told = [one.tobytes() for one in unpack_answer(answer).question_ids]
    asked = {one.tobytes() for one in theirs["question_id"]}
    qualify = [one for one in told if one in asked]
    fillers = [one for one in told if one not in asked]
    assert len(qualify) == sum(1 for p in SUBJECTS if p % 3)
    assert len(fillers) == len(SUBJECTS) - len(qualify), "an answer is as long whoever qualifies"
    both = asked & {one.tobytes() for one in mine["question_id"]}
    assert len(both) >= 30
    # Fillers are in no table of the broker: only in the answer. So are neighbours in its order.
    pairs = [a + b for a, b in pairwise(told)]
    said = [counts[at : at + 100] for at in (0, 100, 200)]
    assert all(len(one.strip()) > 50 for one in said)
    needles = [*fillers, *pairs, *OF_SUBJECTS, b"CANARYCODE", *said]
    needles += [one.hex().encode() for one in fillers]
    disk = files_in(hits.world.home.path)
    server, worker = (memory_of(one.pid) for one in hits.world.processes[:2])
    for place, data in (("disk", disk), ("server", server), ("worker", worker)):
        record_property(f"bytes of its {place}", len(data))
        assert hits.question.encode() in data, f"{place}: this is the search"
        assert [one for one in needles if one in data] == [], place
    # On its disk not even the IDs that it drew for the question: they left sealed.
    assert [one for one in (*asked, *both) if one in disk] == []
    assert all(re.search(re.escape(one), answer) for one in fillers[:3])


def _counts(session: Session, question: str, reader: Identity) -> bytes:
    """Open what the enclave sealed to the reader."""
    sealed = session.broker.sealed_counts(session.study_id, question)
    context = Context(session.study_id, "enclave", READER, QUESTION_COUNTS, (question,))
    return unseal(sealed, sender=session.signed.pin("enclave"), recipient=reader, context=context)


def form(one: Exchange) -> tuple[str, str, int, int, int]:
    """Return what of an exchange somebody on the way, or the imaging commons, could go by."""
    target = re.sub(r"(question|delivery|item|run)-[0-9a-f]+", r"\1-ID", one.target)
    target = re.sub(r"study-(hits|miss)", "study", target)
    return one.method, target, len(one.body), one.status, len(one.heard)


@pytest.mark.threat("T07")
def test_the_imaging_commons_says_and_hears_the_same_whoever_matched(
    hits: Played, misses: Played, record_property: Callable[[str, object], None]
) -> None:
    """Two thirds of its subjects matched, or nobody: every request and answer is as long."""
    forms = [
        [form(e) for e in played.exchanges if "/token" not in e.target] for played in (hits, misses)
    ]
    assert len(forms[0]) > 12
    assert any(
        method == "PUT" and "purpose=delivery-rows" in target for method, target, *_ in forms[0]
    )
    assert forms[0] == forms[1]
    record_property("exchanges compared", len(forms[0]))
