"""
Simulated people at a real broker, and sites that answer second looks: for tests of second looks.

The answers are made by the code that sites use (linkage.encoding.field_filters); what a test wants
to go wrong it changes in between.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from linkage.encoding.columns import Coded
from linkage.encoding.encoder import Encoded, encode_records
from linkage.encoding.field_filters import answer
from linkage.encoding.fields import Normaliser, Reading
from linkage.encoding.keys import StudyKey
from linkage.evaluation.people import simulate, write_parties
from linkage.look_tables import Answers, Questions, answers_to_arrow, names_of, questions_from_arrow
from linkage.matching.dataset import Dataset
from linkage.messages import BROKER, SECOND_LOOK, SECOND_LOOK_ANSWER
from linkage.plain_arrow import read_stream
from linkage.pseudonyms import ContributorSecret
from linkage.run_messages import LookState
from linkage.sealing import Context, seal, unseal
from linkage.signed_study import SignedStudy
from linkage.study import load_study
from tests.broker_packages import pack
from tests.broker_world import World, make_world

CHECKOUT = Path(__file__).resolve().parents[1]
SHIPPED = CHECKOUT / "configs" / "three-commons" / "study.toml"
KEY = StudyKey(hashlib.sha256(b"a look at a broker").digest())
PEOPLE = 400
_NAMES = {"first_name": "first_name", "last_name": "last_name"}
_FILES: dict[str, tuple[str, str, str | None, dict[str, str]]] = {
    "imaging": (
        "imaging.psv",
        "|",
        "%m/%d/%Y",
        {
            **_NAMES,
            "middle_name": "middle_initial",
            "date_of_birth": "dob",
            "sex": "sex",
            "street": "address",
        },
    ),
    "enclave": (
        "enclave.csv",
        ",",
        "%Y%m%d",
        {
            **_NAMES,
            "middle_name": "middle_name",
            "ssn": "ssn",
            "date_of_birth": "date_of_birth",
            "sex": "sex",
        },
    ),
    "claims": (
        "claims.csv",
        ",",
        None,
        {
            "first_name": "given",
            "middle_name": "mi",
            "last_name": "family",
            "ssn": "ssn",
            "street": "street",
        },
    ),
}
"""By party: file, delimiter, format of its dates, column by field."""


def study_text(**looks: float | str | bool) -> str:
    """Return the shipped study with these limits of second looks, a template for `make_world`."""
    text = SHIPPED.read_text(encoding="utf-8").partition("\n[second_look]")[0]
    lines = "".join(f"{k} = {str(v).lower()}\n" for k, v in looks.items())
    text = text.replace("{", "{{").replace("}", "}}") + f"\n[second_look]\n{lines}"
    return text.replace('id = "three-commons"', 'id = "{id}"', 1)


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What a site has: its values by field, normalised, and the record pseudonyms beside them."""

    columns: Mapping[str, Coded]
    encoded: Encoded

    @property
    def rows(self) -> dict[bytes, int]:
        """Return the row of every record by its pseudonym."""
        return {name: row for row, name in enumerate(names_of(self.encoded.records.pseudonyms))}


@cache
def held_by(folder: Path, *, seed: int = 12) -> dict[str, Held]:
    """
    Simulate and encode the people of all parties; the pseudonyms are the same in every study. seed:
    another one gives other people, and more or fewer of them.
    """
    write_parties(simulate(PEOPLE, seed=seed), folder)
    study = load_study(SHIPPED)
    made = {}
    for party, (name, delimiter, dates, columns) in _FILES.items():
        with (folder / name).open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
        reading = Reading(date_format=dates)
        values = {
            one: Normaliser(one, reading).column([row[column] for row in rows]).column
            for one, column in columns.items()
        }
        draw = np.random.default_rng([5, *party.encode()])
        encoded = encode_records(
            values,
            draw.integers(0, 256, (len(rows), 16), dtype=np.uint8),
            study=study,
            party=study.party_named(party),
            key=KEY,
            secret=ContributorSecret(hashlib.sha256(party.encode()).digest()),
        )
        made[party] = Held(values, encoded)
    return made


def datasets(held: Mapping[str, Held]) -> list[Dataset]:
    """Return what the broker's worker links, opened."""
    return [Dataset(p, h.encoded.records, h.encoded.collisions) for p, h in sorted(held.items())]


def make_look_world(folder: Path, **how: Any) -> World:
    """Make a broker whose study allows second looks; nothing is started. how: limits, or `url`."""
    url = how.pop("url", None)
    return make_world(folder, study_id="three-commons", url=url, text=study_text(**how))


def upload(world: World, held: Mapping[str, Held], dataset: int = 1) -> None:
    """Upload everybody's records."""
    for party, one in held.items():
        sender = world.identities[party]
        world.upload(pack(world.signed, sender, one.encoded.records, dataset=dataset))


@dataclass(slots=True)
class Site:
    """A site that answers. kept, sent: what it was asked and the answers that it made, by run."""

    world: World
    party: str
    held: Held
    kept: dict[str, Questions] = field(default_factory=dict)
    sent: dict[str, Answers] = field(default_factory=dict)

    @property
    def signed(self) -> SignedStudy:
        return self.world.signed

    def state(self, run_id: str) -> LookState:
        """Return what the run asks of this site."""
        listed = self.world.actor(self.party).get(f"{self.world.path}/second-looks")
        states = [LookState.model_validate(one) for one in listed.raise_for_status().json()]
        assert {one.uploader for one in states} <= {self.party}
        return next(one for one in states if one.run_id == run_id)

    def asked(self, run_id: str) -> Questions:
        """Fetch and open the questions, as strictly as a site does."""
        state = self.state(run_id)
        path = f"{self.world.path}/second-looks/{run_id}"
        sealed = self.world.actor(self.party).get(path).raise_for_status().content
        assert hashlib.sha256(sealed).hexdigest() == state.digest
        study = self.signed.study
        details = (run_id, state.study_hash)
        opened = unseal(
            sealed,
            sender=self.signed.pin(BROKER),
            recipient=self.world.identities[self.party],
            context=Context(study.study.id, BROKER, self.party, SECOND_LOOK, details),
        )
        _, (batch,) = read_stream(opened)
        asked = questions_from_arrow(batch, study, self.party, most=state.questions)
        self.kept[run_id] = asked
        return asked

    def made(self, run_id: str) -> Answers:
        """Make the honest answers."""
        study = self.signed.study
        fields = study.looks.fields if study.looks else ()
        made = answer(
            self.asked(run_id),
            self.held.columns,
            self.held.rows,
            study=study,
            key=KEY,
            enabled=fields,
        )
        self.sent[run_id] = made
        return made

    def sealed(
        self, run_id: str, data: bytes, *, says: str = "", digest: str = "", sender: str = ""
    ) -> bytes:
        """Seal an answer for a run; says, digest, sender: another run, digest or site, to lie."""
        digest = digest or self.state(run_id).digest
        study_id = self.signed.study.study.id
        details = (says or run_id, digest)
        return seal(
            data,
            sender=self.world.identities[sender or self.party],
            recipient=self.signed.pin(BROKER),
            context=Context(study_id, self.party, BROKER, SECOND_LOOK_ANSWER, details),
        )

    def put(self, run_id: str, sealed: bytes) -> httpx.Response:
        """Send sealed bytes as the answer."""
        path = f"{self.world.path}/second-looks/{run_id}/answer"
        return self.world.actor(self.party).put(path, sealed)

    def send(self, run_id: str, batch: pa.RecordBatch | None = None) -> httpx.Response:
        """Answer a run: honestly, or with this table."""
        table = answers_to_arrow(self.made(run_id)) if batch is None else batch
        return self.put(run_id, self.sealed(run_id, stream(table)))


def stream(batch: pa.RecordBatch) -> bytes:
    """Return a record batch as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def everyone(world: World, held: Mapping[str, Held]) -> dict[str, Site]:
    """Return the sites of all parties."""
    return {party: Site(world, party, one) for party, one in held.items()}


def answer_all(sites: Sequence[Site], run_id: str) -> None:
    """Let sites answer a run."""
    for site in sites:
        assert site.send(run_id).raise_for_status().status_code == 201


Waits = Callable[[], bool]


def waits(world: World, run_id: str) -> Waits:
    """Return a condition: the run has asked, and waits."""

    def asked() -> bool:
        path = f"{world.path}/second-looks"
        listed = world.actor("admin").get(path).raise_for_status().json()
        return any(one["run_id"] == run_id for one in listed)

    return asked
