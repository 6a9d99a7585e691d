"""
A malicious site uploads people it guesses and looks, in all it gets back, who was linked.

Two studies on one real broker differ only in whom the *other* parties hold: everybody that the
site guessed, or nobody. All that the site can fetch must look the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats

from broker.crosswalks import Members, crosswalks
from linkage import idtables
from linkage.pseudonyms import random_ids
from linkage.records import EncodedRecords, FixedColumn
from tests.broker_packages import encoded, pack
from tests.broker_world import HTTP, World, lose_blobs, make_world, problem, running
from tests.protocol.worlds import beside, crosswalk, linked, released

PEOPLE = 120
EVERYBODY = ("imaging", "enclave", "claims")
ERROR = 1e-6
"""Chance that a statistical test here fails though nothing is wrong."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(make_world(tmp_path_factory.mktemp("probing"))) as made:
        yield made


@pytest.fixture(scope="module")
def hits(world: World) -> tuple[World, dict[str, Any], str]:
    """Everybody whom the site guessed is at the other parties."""
    return played(world, "all-are-hits", lambda party: range(PEOPLE))


@pytest.fixture(scope="module")
def misses(world: World) -> tuple[World, dict[str, Any], str]:
    """Nobody is; the others share people of their own."""
    return played(
        world, "all-are-misses", lambda p: range(PEOPLE) if p == "imaging" else range(500, 620)
    )


def played(
    world: World, study_id: str, people: Callable[[str], range]
) -> tuple[World, dict[str, Any], str]:
    study = beside(world, study_id)
    run = linked(study, {p: encoded(study.signed, p, people(p)) for p in EVERYBODY})
    assert run["state"] == "done", run["failure"]
    return study, run, released(study, run, *EVERYBODY)


def seen(study: World, run: dict[str, Any], release: str) -> dict[str, Any]:
    """Everything that the imaging party can GET, with what is random or timed blanked."""
    site = study.actor("imaging")
    described = HTTP.get(f"{study.url}/openapi.json").json()["paths"]
    (item,) = site.get(f"{study.path}/inbox", subject=release).json()["items"]
    named = {
        "study_id": study.study_id,
        "uploader": "imaging",
        "dataset": "1",
        "run_id": run["run_id"],
        "job_id": release,
        "release_id": release,
        "question_id": "question-1",
        "item_id": item["item_id"],
    }
    answers: dict[str, Any] = {}
    for path, ways in described.items():
        # The signed study is the parties' own text and keys, not what the broker found.
        if "get" not in ways or path == "/v1/audit" or path.endswith("/signed"):
            continue
        answer = site.get(re.sub(r"{(\w+)}", lambda m: named[m.group(1)], path))
        text = answer.text
        if answer.headers["content-type"] == "application/octet-stream":
            text = f"{len(answer.content)} bytes"
        for secret in (study.study_id, run["run_id"], release, item["item_id"], item["digest"]):
            text = text.replace(secret, "X")
        text = re.sub(r'"(study_hash|software|request)":"[^"]*"', "", text)
        text = re.sub(r'"(asked_at|made_at|state_since)":\d+', "", text)
        answers[path] = (answer.status_code, sorted(answer.headers), text)
    ids = crosswalk(study, "imaging", release)
    _, repeated = np.unique(
        np.array([int.from_bytes(i) >> 65 for i in ids.values()]), return_counts=True
    )
    answers["crosswalk"] = (len(ids), sorted(repeated.tolist()))
    return answers


@pytest.mark.threat("T07")
def test_a_site_sees_the_same_whoever_it_guessed(
    hits: tuple[World, dict[str, Any], str], misses: tuple[World, dict[str, Any], str]
) -> None:
    """Every address, status, header, size and count; the guess was right for all, and for none."""
    assert hits[1]["report"]["overlaps"].get("claims+enclave+imaging", 0) >= PEOPLE - 6
    assert "claims+enclave+imaging" not in misses[1]["report"]["overlaps"]
    one, other = seen(*hits), seen(*misses)
    assert len(one) >= 10
    assert one == other


@pytest.mark.threat("T07")
def test_rows_and_ids_of_a_release_do_not_tell_matches(
    record_property: Callable[[str, object], None],
) -> None:
    """20 releases of 1,000 records, half of them matched: places and IDs are drawn alike."""
    n, places, bits = 1000, [], []
    mine = Members(random_ids(n), np.arange(n))
    theirs = Members(random_ids(n // 2), np.arange(n // 2))
    for _ in range(20):
        made = crosswalks(
            {"a": mine, "b": theirs}, ["a", "b"], idtables.CROSSWALK, "cross_commons_id"
        )
        table = idtables.unpack(made["a"], idtables.CROSSWALK)
        person = {name.tobytes(): i for i, name in enumerate(mine.pseudonyms)}
        who = np.array([person[name.tobytes()] for name in table["record_pseudonym"]])
        matched = who < n // 2
        places.append((np.flatnonzero(matched), np.flatnonzero(~matched)))
        ones = np.unpackbits(table["cross_commons_id"], axis=1)
        bits.append((ones[matched].sum(0), ones[~matched].sum(0)))
    one, other = (np.concatenate([pair[side] for pair in places]) for side in (0, 1))
    by_place = stats.mannwhitneyu(one, other).pvalue
    counts = np.array([np.sum([pair[side] for pair in bits], axis=0) for side in (0, 1)])
    total = 20 * n // 2
    tables = np.stack([counts, total - counts])
    chi = sum(
        stats.chi2_contingency(tables[:, :, bit], correction=False).statistic for bit in range(128)
    )
    by_bits = stats.chi2.sf(chi, 128)
    record_property("matched against unmatched rows, p of their places", f"{by_place:.2f}")
    record_property("p of the bits of their IDs", f"{by_bits:.2f}")
    assert min(by_place, by_bits) > ERROR


@pytest.mark.threat("T07")
def test_a_failed_run_tells_a_party_no_count(world: World) -> None:
    """A run that fails by its number of candidates would count the others' people."""
    study = beside(world, "spoilt-run")
    for party in EVERYBODY:
        records = encoded(study.signed, party, range(30))
        study.upload(pack(study.signed, study.identities[party], records))
    lose_blobs(study, "claims")
    run = study.run()
    assert run["state"] == "failed"
    assert "Hint: " in run["failure"]
    for party in EVERYBODY:
        told = study.actor(party).get(f"{study.path}/runs/{run['run_id']}").json()
        assert told["failure"] == "the run failed; the broker's admin can read why", party
        listed = study.actor(party).get(f"{study.path}/runs").json()
        assert listed[0]["failure"] == told["failure"]


@pytest.mark.threat("T07")
@pytest.mark.threat("T17")
def test_no_address_gives_scores_or_other_parties_records(
    hits: tuple[World, dict[str, Any], str],
) -> None:
    """Neither the described answers nor a run's report hold anything by pair or by record."""
    study, run, _ = hits
    described = HTTP.get(f"{study.url}/openapi.json").json()["components"]["schemas"]
    names = {name for one in described.values() for name in one.get("properties", {})}
    assert len(names) > 40
    suspicious = ("score", "dice", "similar", "probab", "weight", "pair", "candidate", "pseudonym")
    # How many pairs the whole run has found so far, for the admin only.
    names -= {"pairs_found"}
    assert not [n for n in names if any(word in n for word in suspicious)]
    lists = list(_lists(run["report"]))
    assert lists
    assert max(map(len, lists)) < PEOPLE, "a list as long as a dataset could be one value a record"
    for party in EVERYBODY:
        told = study.actor(party).get(f"{study.path}/runs/{run['run_id']}").json()
        assert (told["report"], told["result_digest"], told["seconds"]) == (None, None, {})
        assert told["work"] is None


def _lists(found: Any) -> Iterator[Any]:
    if isinstance(found, list | dict):
        yield found
        for one in found.values() if isinstance(found, dict) else found:
            yield from _lists(one)


@pytest.mark.threat("T15")
def test_two_spellings_are_not_bridged_for_their_uploader(world: World) -> None:
    """
    The site sends each guessed person twice, spelt in two ways; both other parties hold each
    spelling. It still gets one ID for each of its records, whomever a third party would bridge.
    """
    study = beside(world, "two-spellings")
    first = encoded(study.signed, "imaging", range(60), seed=1)
    second = encoded(study.signed, "imaging", range(60), seed=2)
    both = _together(first, second)
    run = linked(
        study,
        {"imaging": both} | {p: encoded(study.signed, p, range(60)) for p in ("enclave", "claims")},
    )
    assert run["state"] == "done", run["failure"]
    ids = crosswalk(study, "imaging", released(study, run, *EVERYBODY))
    assert len(ids) == len(set(ids.values())) == 120


def _together(first: EncodedRecords, second: EncodedRecords) -> EncodedRecords:
    """Two uploads in one: the second under other names, and with keys of its own."""
    n = len(first)
    clks = {
        clk: FixedColumn(
            np.concatenate([column.values, second.clks[clk].values]), np.ones(2 * n, bool)
        )
        for clk, column in first.clks.items()
    }
    keys = {
        rule: FixedColumn(np.concatenate([column.values, random_ids(n)]), np.ones(2 * n, bool))
        for rule, column in first.match_keys.items()
    }
    names = np.concatenate([first.pseudonyms, random_ids(n)])
    order = np.lexsort(names.T[::-1])
    return EncodedRecords(
        names[order],
        np.arange(2 * n, dtype=np.uint32),
        {c: FixedColumn(v.values[order], v.present[order]) for c, v in clks.items()},
        {r: FixedColumn(v.values[order], v.present[order]) for r, v in keys.items()},
    )


@pytest.mark.threat("T07")
def test_who_is_asked_for_and_not_there_is_refused_alike(world: World) -> None:
    """An inbox item of another party and one that does not exist get the same answer."""
    study = beside(world, "guessed-items")
    site = study.actor("imaging")
    told = {problem(site.get(f"{study.path}/inbox/item-{i:016x}")) for i in range(5)}
    assert len(told) == 1
