"""Lists of what questions may name, at a real broker on both databases."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.store.engine import Database
from broker.store.tables import offered_concept
from linkage.errors import PackageRefused
from linkage.messages import CUSTODIAN
from linkage.offered import (
    ConceptsFound,
    Offered,
    OfferedConcept,
    OfferWithdrawal,
    digest_of,
    head_of,
    packed,
    received,
    to_lines,
)
from tests.broker_world import Actor, World, make_world, problem, running, sign_for
from tests.people import in_session

NOW = int(time.time()) - 10
LUNG = (
    (443388, "condition", "Malignant tumor of lung", "SNOMED", "363358000", "S"),
    (4115276, "condition", "Non-small cell lung cancer", "SNOMED", "254637007", "S"),
    (45533000, "condition", "Lung cancer screening declined", "SNOMED", "Z12.2", ""),
    (4163872, "procedure", "Plain chest X-ray", "SNOMED", "399208008", "S"),
    (4100001, "condition", "Ménière's disease", "SNOMED", "13445001", "S"),
    (4100002, "condition", "100% burn_of (body)", "SNOMED", "B100", "S"),
    (8840, "unit", "milligram per deciliter", "UCUM", "mg/dL", "S"),
)


def concepts(rows: Any = LUNG) -> list[OfferedConcept]:
    names = ("concept_id", "domain", "name", "vocabulary", "code", "standard")
    return [OfferedConcept.model_validate(dict(zip(names, row, strict=True))) for row in rows]


def body(
    world: World, party: str = "enclave", rows: Any = LUNG, signer: str = "", **changed: Any
) -> bytes:
    data = to_lines(concepts(rows))
    head = Offered(
        **{
            "study_id": world.study_id,
            "party": party,
            "made_at": NOW,
            "least": 11,
            "concepts": len(rows),
            "digest": digest_of(data),
            "values": {"modality": ("CT", "MR")} if party == "imaging" else {},
        }
        | changed
    ).sign(world.identities[signer or party])
    return packed(head, data)


def put(world: World, sent: bytes, party: str = "enclave") -> httpx.Response:
    return world.actor(party).put(f"{world.path}/offered", sent)


def search(call: Callable[..., httpx.Response], world: World, **asked: Any) -> list[int]:
    answer = call("GET", f"{world.path}/concepts", params=asked).raise_for_status()
    found = ConceptsFound.model_validate_json(answer.content).found
    return [one.concept.concept_id for one in found]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_postgres_url: Callable[[], str],
) -> Iterator[World]:
    url = new_postgres_url() if request.param == "postgresql" else None
    made = make_world(tmp_path_factory.mktemp("offered"), url=url)
    with running(made, worker=False):
        signed, identities = sign_for(made.home.public(), "offering", rehearsal=False)
        print_of = signed.pin(CUSTODIAN).fingerprint
        admin = made.actor("admin")
        admin.post("/v1/studies", signed, custodian_fingerprint=print_of).raise_for_status()
        made.signed, made.identities = signed, identities
        assert put(made, body(made)).status_code == 409, "a draft takes no list"
        made.confirm()
        yield made


def test_a_list_is_searched_and_the_next_one_replaces_it(world: World) -> None:
    ada = in_session(world.home, world.url, "ada", "researcher:offering").call
    assert search(ada, world, words="lung") == []
    for _ in range(2):  # the same again is one
        told = put(world, body(world)).raise_for_status().json()
        assert (told["concepts"], told["party"]) == (len(LUNG), "enclave")
    _finds(ada, world)
    _is_shared(ada, world)
    _is_refused(world)
    fewer = put(world, body(world, rows=LUNG[3:4], made_at=NOW + 5)).raise_for_status().json()
    assert fewer["concepts"] == 1
    assert search(ada, world, words="lung") == [443388], "the other party's"
    assert search(ada, world, words="xray") == []
    assert search(ada, world, words="x-ray chest") == [4163872]
    _is_taken_back(ada, world)


def _finds(ada: Callable[..., httpx.Response], world: World) -> None:
    # What begins with the words comes first, standard ones before others of their rank.
    assert search(ada, world, words="LUNG") == [45533000, 443388, 4115276]
    assert search(ada, world, words="cancer lung") == [4115276, 45533000]
    assert search(ada, world, words="menieres") == []
    assert search(ada, world, words="meniere's") == [4100001]
    assert search(ada, world, words="MÉNIÈRE") == [4100001]
    assert search(ada, world, words="mall") == [4115276], "within a word"
    # Codes and ids whole, and nothing of what a database means by these characters.
    assert search(ada, world, words="443388") == [443388]
    assert search(ada, world, words="443388, 4163872") == [4163872, 443388]
    assert search(ada, world, words="44338") == []
    assert search(ada, world, words="z12.2") == [45533000]
    assert search(ada, world, words="z12") == []
    for words in ("100%", "n_of", "burn_of"):
        assert search(ada, world, words=words) == [4100002], words
    for words in ("%", "_", "' OR 1=1 --", "\\", "/%"):
        assert search(ada, world, words=words) in ([], [4100002]), words
    assert search(ada, world, words="chest", domain="condition") == []
    assert search(ada, world, words="chest", domain="procedure") == [4163872]
    assert search(ada, world, words="milligram") == [], "a unit is no kind of record"
    assert search(ada, world, words="milligram", domain="unit") == [8840]
    assert search(ada, world, words="lung", party="imaging") == []
    assert search(ada, world, words="lung", page=2) == []
    assert search(ada, world, words="\0chest\0x-RAY") == [4163872]
    assert search(ada, world, words="\0") == []
    asked = ada("GET", f"{world.path}/concepts", params={"words": "", "page": 1})
    assert asked.status_code == 422
    none = ada("GET", f"{world.path}/concepts", params={"words": "x", "domain": "Drug"})
    assert none.status_code == 422


def _is_shared(ada: Callable[..., httpx.Response], world: World) -> None:
    """Two parties may offer one concept; it is found once, with both."""
    put(world, body(world, "imaging", LUNG[:1]), "imaging").raise_for_status()
    answer = ada("GET", f"{world.path}/concepts", params={"words": "malignant"}).json()
    assert [one["parties"] for one in answer["found"]] == [["enclave", "imaging"]]
    assert search(ada, world, words="lung", party="imaging") == [443388]
    heads = ada("GET", f"{world.path}/offered").raise_for_status().json()
    assert [one["head"]["party"] for one in heads] == ["enclave", "imaging"]
    for one in heads:
        head = Offered.model_validate(one["head"])
        head.verify(world.signed.pin(head.party))
    assert heads[1]["head"]["values"] == {"modality": ["CT", "MR"]}
    reviewer = in_session(world.home, world.url, "rita", "reviewer:offering").call
    for path in ("offered", "concepts?words=lung"):
        assert reviewer("GET", f"{world.path}/{path}").status_code == 403


def _is_refused(world: World) -> None:
    """Another's list, an altered one, an old one, one of rarer things: nothing of them stays."""
    good = body(world)
    head, _, lines = good.partition(b"\n")
    cases = {
        body(world, signer="imaging"): 422,
        body(world, "imaging"): 422,
        body(world, study_id="another"): 422,
        body(world, least=10): 422,
        body(world, made_at=NOW - 1): 409,
        body(world, made_at=NOW + 100_000): 422,
        body(world, concepts=1): 422,
        body(world, rows=LUNG[:1] * 2): 422,
        head + b"\n" + lines.replace(b"lung", b"lang"): 422,
        good + b'[1, "condition", "more", "", "", "S"]\n': 422,
        good[:-1]: 422,
        b"": 422,
        b"\x1f\x8b\x08\x00": 422,
        head + b"\n" + b"[" * 100_000: 422,
    }
    for sent, status in cases.items():
        answer = put(world, sent)
        assert problem(answer)[0] == status, (answer.text, sent[:300])
    kept = world.actor("enclave").get(f"{world.path}/offered").json()[0]["head"]
    assert Offered.model_validate(kept) == head_of(io.BytesIO(good))
    assert put(world, b"x" * 100, "claims").status_code == 422


def test_no_line_is_read_for_who_has_a_token_and_no_key(world: World) -> None:
    """200,000 lines are some 150 MB as concepts: they are looked at once it is known whose."""
    good, garbage = body(world, made_at=NOW + 7), b"[0]\n" * 100_000
    head = good.partition(b"\n")[0]
    forged = body(world, signer="imaging", made_at=NOW + 7).partition(b"\n")[0]
    assert "signature" in problem(put(world, forged + b"\n" + garbage))[2]
    assert "not the one that its head tells of" in problem(put(world, head + b"\n" + garbage))[2]


def _is_taken_back(ada: Callable[..., httpx.Response], world: World) -> None:
    def said(party: str = "enclave", **changed: Any) -> OfferWithdrawal:
        fields = {"study_id": world.study_id, "party": party, "made_at": NOW + 5} | changed
        return OfferWithdrawal(**fields).sign(world.identities[party])

    enclave, at = world.actor("enclave"), f"{world.path}/offered/withdraw"
    assert enclave.post(at, said(said_at=NOW)).status_code == 200
    assert put(world, body(world, rows=LUNG[3:4], made_at=NOW + 5)).status_code == 409
    again = body(world, rows=LUNG[3:4], made_at=NOW + 5, said_at=NOW + 1)
    assert put(world, again).raise_for_status().json()["concepts"] == 1, "the site's later word"
    assert enclave.post(at, said(made_at=NOW)).status_code == 409, "of an earlier list"
    assert enclave.post(at, said("imaging")).status_code == 422
    gone = said(said_at=NOW + 6)
    assert enclave.post(at, gone).raise_for_status().json()["concepts"] == 0
    assert enclave.post(at, gone).status_code == 404
    assert search(ada, world, words="chest") == []
    assert search(ada, world, words="lung") == [443388], "the other party's stays"
    _stays_taken_back(enclave, world)
    log = world.actor("admin").get("/v1/audit/entries", study=world.study_id).json()
    told = json.dumps(log)
    assert "concepts offered" in told
    assert "offered concepts withdrawn" in told
    assert "lung" not in told.lower()
    mine = {offered_concept.c.party == "enclave"}
    database = Database(world.home.database_url())
    with database.read() as connection:
        wanted = offered_concept.select().where(*mine)
        assert connection.execute(wanted).all() == []
    database.close()


def _stays_taken_back(enclave: Actor, world: World) -> None:
    """Whoever kept the list, and has a token and not the key, does not bring it back."""
    for sent in (
        body(world),
        body(world, rows=LUNG[3:4], made_at=NOW + 5),
        body(world, rows=LUNG[3:4], made_at=NOW + 5, said_at=NOW + 1),
        body(world, rows=LUNG[3:4], made_at=NOW + 5, said_at=NOW + 6),
    ):
        assert problem(put(world, sent))[0] == 409
    heads = enclave.get(f"{world.path}/offered").raise_for_status().json()
    assert [one["head"]["party"] for one in heads] == ["imaging"]


def test_a_list_that_no_python_text_holds_is_refused() -> None:
    """Lone surrogates and NUL break databases; a line is a whole concept, or nothing is taken."""
    for line in (
        b'[1, "condition", "\\ud800", "", "", "S"]\n',
        b'[1, "condition", "a\\u0000b", "", "", "S"]\n',
        b'[0, "condition", "none", "", "", "S"]\n',
        b'[true, "condition", "yes", "", "", "S"]\n',
        b'[1, "condition", "", "", "", "S"]\n',
        b'[1, "person", "a", "", "", "S"]\n',
        b'[1, "condition", "a", "", "", "S", 1]\n',
        b'{"concept_id": 1}\n',
        b"[1e999]\n",
    ):
        head = Offered(
            study_id="aa", party="bb", made_at=1, least=11, concepts=1, digest=digest_of(line)
        )
        file = io.BytesIO(packed(head, line))
        assert head_of(file) == head
        with pytest.raises(PackageRefused, match="line 2 is no concept"):
            received(file, head)


def test_pages_of_many(world: World, tmp_path: Path) -> None:
    """Thousands fit: pages of the shortest names follow one another without gap or repeat."""
    rows = [(1_000 + n, "drug", f"tablet {n:05}", "RxNorm", str(n), "S") for n in range(3_000)]
    put(world, body(world, "claims", rows), "claims").raise_for_status()
    ada = world.actor("enclave").call
    seen: list[int] = []
    for page in range(1, 26):
        seen += search(ada, world, words="tablet", party="claims", page=page)
    assert seen == [1_000 + n for n in range(500)]
    last = ada("GET", f"{world.path}/concepts", params={"words": "tablet", "page": 25}).json()
    assert (last["more"], last["cut"]) == (False, True)
    assert search(ada, world, words="tablet 02999") == [3_999]
