"""Marks of strata at the site: drawn as agreed, once a record, and never the groups themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from linkage.delta import apply_delta
from linkage.encoding.columns import Coded
from linkage.errors import Conflict, SourceRefused
from linkage.messages import Manifest
from linkage.strata import NO_MARK, REST, Stratum, chances
from sites import strata_kept
from sites.config import SourceConfig
from sites.packages import load_manifest
from sites.spool import Spool
from sites.strata import Chosen, Marker, Response, chosen_strata, columns_of
from sites.strata_config import StrataConfig
from sites.tokenizer import tokenize
from sites.vault import Vault
from tests.isolated import CHECKOUT
from tests.studies import STUDY, cast, vault_of
from tests.unit.sites.test_tokenizer import opened

STRATA = """
[[strata]]
id = "sex"
groups = ["female", "male"]

[[strata]]
id = "birth-decade"
groups = ["before 1910", "1910s", "1920 or later"]
epsilon = 0.5

[[strata]]
id = "race"
groups = ["asian", "black", "white"]
epsilon = 2.0
"""
EVERYONE = cast(STUDY + STRATA)
SEND = StrataConfig.model_validate({"send": True, "names": {"race": {"2106-3": "White"}}})
RACES = ("Asian", "BLACK ", "2106-3", "")


def _letters(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def source(folder: Path, records: int = 400, *, first: int = 0) -> SourceConfig:
    path = folder / "people.csv"
    rows = ["id,first,last,dob,sex,race"]
    rows += [
        f"r{i},Ada{chr(97 + i % 26)},Name{_letters(i)},12/10/{1908 + i % 30},"
        f"{'FM'[i % 2]},{RACES[i % 4]}"
        for i in range(first, first + records)
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    columns = {"first_name": "first", "last_name": "last", "date_of_birth": "dob", "sex": "sex"}
    return SourceConfig.model_validate(
        {
            "file": path,
            "record_id": "id",
            "date_format": "MM/DD/YYYY",
            "columns": columns,
            "subgroups": {"race": "race"},
        }
    )


def marks(vault: Vault, done: Path) -> tuple[Manifest, dict[str, tuple[int, ...]]]:
    """Return what a package says of its marks, and every record's, by record id."""
    manifest = load_manifest(done)
    records = opened(EVERYONE, done, manifest)
    ids = vault.load_map(manifest.dataset)
    assert records.strata is not None
    pairs = zip(records.pseudonyms, records.strata.tolist(), strict=True)
    return manifest, {ids[name.tobytes()]: tuple(row) for name, row in pairs}


@pytest.mark.parametrize(("groups", "epsilon"), [(2, 2.0), (3, 1.0), (5, 1.0), (8, 0.5)])
def test_marks_are_drawn_as_their_matrix_says_and_as_opendp_draws_one(
    groups: int, epsilon: float
) -> None:
    """Many records a call of OpenDP, or one a call: the same mechanism."""
    from opendp.measurements import make_randomized_response

    names = tuple("abcdefgh"[: groups - 1])
    stratum = Stratum(id="xx", groups=names, epsilon=epsilon)
    response, n = Response(stratum), 20_000
    assert epsilon * (1 - 1e-8) <= response.epsilon <= epsilon
    p, q = chances(epsilon, groups)
    for own in (1, groups):
        expected = np.full(groups, q)
        expected[own - 1] = p
        found = np.bincount(response.draw(np.full(n, own, np.uint8)), minlength=groups + 1)
        assert found[0] == 0
        spread = np.sqrt(n * expected * (1 - expected))
        assert (np.abs(found[1:] - n * expected) < 5 * spread).all()
    reference, times = make_randomized_response(list(range(groups)), prob=p), 2_000
    drawn = np.bincount([reference(0) for _ in range(times)], minlength=groups)
    expected = np.array([p, *[q] * (groups - 1)])
    spread = np.sqrt(times * expected * (1 - expected))
    assert (np.abs(drawn - times * expected) < 5 * spread).all()


def test_draws_are_independent_of_each_other() -> None:
    """Within a call of OpenDP, from one to the next, and of one record from time to time."""
    response = Response(Stratum(id="xx", groups=("a",), epsilon=0.5))
    one, other = (response.draw(np.full(20_000, 1, np.uint8)) == 1 for _ in range(2))
    for a, b in ((one, other), (one[1:], one[:-1]), (one[1024:], one[:-1024])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(a))


def test_every_record_is_answered_by_its_own_group_however_many_there_are() -> None:
    """Groups mixed, in numbers that fill no call, a whole one, or one and a bit; and nobody."""
    stratum = Stratum(id="xx", groups=tuple("abcdefg"), epsilon=2.0)
    response, p = Response(stratum), stratum.chances[0]
    groups = np.repeat(np.arange(1, 9, dtype=np.uint8), [1, 2, 31, 700, 1023, 1024, 1025, 3000])
    groups = np.random.default_rng(1).permutation(groups)
    marks = response.draw(groups)
    assert set(marks.tolist()) <= set(range(1, 9))
    spread = np.sqrt(p * (1 - p) / len(groups))
    assert abs((marks == groups).mean() - p) < 5 * spread
    assert response.draw(np.zeros(0, np.uint8)).tolist() == []


INTERRUPTED = """
import os, signal, threading, time
import numpy as np
from linkage.strata import Stratum
from sites.strata import Response

response, groups = Response(Stratum(id="xx", groups=("a",))), np.ones(2_000, np.uint8)
response.draw(groups)
heard = 0
for time_s in np.random.default_rng(1).uniform(0.01, 0.06, 25):
    soon = threading.Timer(time_s, os.kill, (os.getpid(), signal.SIGINT))
    soon.start()
    try:
        response.draw(groups)
        soon.join()
        time.sleep(1)
    except KeyboardInterrupt:
        heard += 1
print(heard)
"""


def test_an_interruption_waits_for_opendp_and_is_not_lost() -> None:
    """Else its Python frees memory twice, and the process dies of it."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert (done.returncode, done.stdout.strip()) == (0, "25"), done.stderr


def test_nobody_is_drawn_for_who_has_a_mark() -> None:
    race = Chosen(EVERYONE.signed.study.strata[2], column="race")
    table = pa.table({"race": pa.chunked_array([["black", None, "asian", "x"]])})
    kept = np.array([True, False, True, False])
    marks, rest = Marker([race]).draw(table, {}, kept)
    assert (marks[:, 0] == NO_MARK).tolist() == kept.tolist()
    assert rest == {"race": 2}


def test_a_record_is_in_the_group_that_its_source_names() -> None:
    sex, born, race = EVERYONE.signed.study.strata
    chosen = Chosen(race, column="race", names={"2106-3": "white"})
    assert [chosen.number(one) for one in ("white", "2106-3", "WHITE ", "none", "")] == [
        3,
        3,
        3,
        4,
        4,
    ]
    table = pa.table({"race": pa.chunked_array([["black", None, "asian", "x"]])})
    assert chosen.numbers(table, {}).tolist() == [2, 4, 1, 4]
    by_field = Chosen(sex, made_of="sex")
    assert by_field.numbers(table, {"sex": Coded.of(["m", "", "f", "m"])}).tolist() == [2, 3, 1, 2]
    decade = Chosen(born, made_of="date_of_birth")
    dates = Coded.of(["1909-12-31", "1910-01-01", "1919-12-31", "1920-01-01", ""])
    assert decade.numbers(table, {"date_of_birth": dates}).tolist() == [1, 2, 2, 3, 4]
    assert Chosen(race).numbers(table, {}).tolist() == [4] * 4
    drawn, rest = Marker([chosen, by_field]).draw(table, {"sex": Coded.of([""] * 4)})
    assert drawn.shape == (4, 2)
    assert rest == {"race": 2, "sex": 4}


def test_a_site_that_does_not_say_yes_sends_none(tmp_path: Path) -> None:
    config = source(tmp_path)
    study = EVERYONE.signed.study
    assert chosen_strata(StrataConfig(), config, study, study.party_named("alpha")) == ()
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = tokenize(config, "alpha", EVERYONE.signed, vault)
    manifest = load_manifest(done.package)
    assert manifest.strata == ()
    assert opened(EVERYONE, done.package, manifest).strata is None
    assert vault.kept("strata/small-study/variables") is None
    # As a version of the software signed it that knew no strata.
    assert b"strata" not in manifest.signed_bytes()


def test_what_the_site_file_must_say(tmp_path: Path) -> None:
    study = EVERYONE.signed.study
    party, config = study.party_named("alpha"), source(tmp_path)
    bare = config.model_copy(update={"subgroups": {}})
    with pytest.raises(SourceRefused, match="which column holds 'race'") as caught:
        chosen_strata(SEND, bare, study, party)
    assert 'lacks = ["race"]' in caught.value.hint
    lacking = chosen_strata(SEND.model_copy(update={"lacks": ("race",)}), bare, study, party)
    assert [(one.column, one.made_of) for one in lacking] == [
        ("", "sex"), ("", "date_of_birth"), ("", ""),
    ]  # fmt: skip
    assert columns_of(chosen_strata(SEND, config, study, party), config) == {"race": ("race",)}
    wrong = StrataConfig.model_validate({"send": True, "names": {"race": {"x": "green"}}})
    with pytest.raises(SourceRefused, match="'green' is no group"):
        chosen_strata(wrong, config, study, party)
    wrong = StrataConfig.model_validate({"send": True, "lacks": ["hair"]})
    with pytest.raises(SourceRefused, match="'hair' is no variable"):
        chosen_strata(wrong, config, study, party)


def test_a_record_keeps_its_mark_in_every_version_and_delta(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    first = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault, strata=SEND)
    manifest, one = marks(vault, first.package)
    assert [m.id for m in manifest.strata] == ["sex", "birth-decade", "race"]
    assert len(one) == 400
    assert {m[2] for m in one.values()} == {1, 2, 3, 4}
    assert first.rest == {"sex": 0, "birth-decade": 0, "race": 100}
    assert not any("race" in one for one in first.warnings)
    misread = SEND.model_copy(update={"names": {}, "lacks": ("race",)})
    wrong = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault, strata=misread)
    assert any("400 of the records are in no group of 'race'" in one for one in wrong.warnings)
    changed = "drawn before [source.subgroups] or [strata] was changed"
    assert not any(changed in one for one in first.warnings)
    assert any(changed in one for one in wrong.warnings), "and they are what is sent"
    shutil.rmtree(wrong.package)
    again = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault, strata=SEND)
    assert marks(vault, again.package)[1] == one
    assert again.warnings == first.warnings
    # Everybody's race is corrected, some records go and come: a mark stays what it was.
    path = source(tmp_path, 390, first=20)
    text = Path(path.file).read_text(encoding="utf-8")  # type: ignore[attr-defined]
    Path(path.file).write_text(text.replace("2106-3", "Asian"), encoding="utf-8")  # type: ignore[attr-defined]
    delta = tokenize(path, "alpha", EVERYONE.signed, vault, strata=SEND, delta=True)
    assert (delta.added, delta.removed) == (10, 20)
    whole = apply_delta(
        opened(EVERYONE, again.package, load_manifest(again.package)),
        opened(EVERYONE, delta.package, load_manifest(delta.package)),
    )
    ids = vault.load_map(3)
    assert whole.strata is not None
    found = {
        ids[name.tobytes()]: tuple(row)
        for name, row in zip(whole.pseudonyms, whole.strata.tolist(), strict=True)
    }
    assert len(found) == 390
    assert all(found[i] == one[i] for i in found.keys() & one.keys())
    # Who was gone comes back with the mark it had.
    back = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault, strata=SEND)
    assert marks(vault, back.package)[1] == one


def test_a_delta_has_marks_only_where_its_base_has(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault)
    config = source(tmp_path, 401)
    with pytest.raises(Conflict, match="bear no marks of strata, and this one would bear some"):
        tokenize(config, "alpha", EVERYONE.signed, vault, delta=True, strata=SEND)
    tokenize(config, "alpha", EVERYONE.signed, vault, strata=SEND)
    config = source(tmp_path, 402)
    with pytest.raises(Conflict, match="this one would bear none"):
        tokenize(config, "alpha", EVERYONE.signed, vault, delta=True)


def test_records_of_one_person_bear_one_mark(tmp_path: Path) -> None:
    """Each a mark of its own, many duplicates would tell the group."""
    config = source(tmp_path)
    rows = ["id,first,last,dob,sex,race"]
    rows += [f"r{i},Ada,Lovelace,12/10/1915,F,Asian" for i in range(60)]
    Path(config.file).write_text("\n".join(rows[:31]) + "\n")  # type: ignore[attr-defined]
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = tokenize(config, "alpha", EVERYONE.signed, vault, strata=SEND)
    assert done.groups == 1
    (mark,) = set(marks(vault, done.package)[1].values())
    Path(config.file).write_text("\n".join(rows) + "\n")  # type: ignore[attr-defined]
    done = tokenize(config, "alpha", EVERYONE.signed, vault, strata=SEND)
    assert set(marks(vault, done.package)[1].values()) == {mark}


def test_another_epoch_draws_nothing_anew_and_another_rule_is_bounded(tmp_path: Path) -> None:
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    first = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault, strata=SEND)
    _, one = marks(vault, first.package)
    spool = Spool(tmp_path / "spool")
    spool.make()
    study = EVERYONE.signed.study
    names = np.array(opened(EVERYONE, first.package, load_manifest(first.package)).pseudonyms)

    def settled(strata: tuple[Stratum, ...], most: float) -> npt.NDArray[np.uint8]:
        for name, values in (
            ("names", names),
            ("group_positions", np.arange(len(names), dtype=np.uint32)),
            ("order", np.arange(len(names), dtype=np.uint32)),
        ):
            spool.save(name, values)
        fresh = np.full((len(names), len(strata)), 1, np.uint8)
        spool.write(1, {"strata": fresh}, {"rows": len(names)}, [])
        strata_kept.settle(vault, spool, study.study.id, strata, most)
        return np.array(spool.load("strata"))

    same = settled(study.strata, 4.0)
    assert sorted(map(tuple, same.tolist())) == sorted(one.values())
    # Two variables alone: still the same marks. One by another epsilon: drawn anew, and counted.
    assert (settled(study.strata[::2], 4.0) == same[:, ::2]).all()
    changed = (replace_epsilon(study.strata[0], 0.5), *study.strata[1:])
    with pytest.raises(Conflict, match=r"an epsilon of 4, and this site allows 3\.9"):
        settled(changed, 3.9)
    anew = settled(changed, 4.0)
    assert (anew[:, 0] == 1).all()
    assert (anew[:, 1:] == same[:, 1:]).all()
    assert (settled(study.strata, 4.0) == same).all()


def replace_epsilon(stratum: Stratum, epsilon: float) -> Stratum:
    return stratum.model_copy(update={"epsilon": epsilon})


def test_kept_marks_are_found_among_names_that_begin_alike() -> None:
    draw = np.random.default_rng(5)
    known = draw.integers(0, 2, (300, 16), dtype=np.uint8)
    known[:, :7] = 0  # 2 different first halves
    known = np.unique(known, axis=0)
    asked = np.concatenate([known[::3], known[::3] + np.uint8(2)])
    places = strata_kept._rows_of(known, asked)
    assert places[: len(known[::3])].tolist() == list(range(0, len(known), 3))
    assert (places[len(known[::3]) :] == -1).all()
    assert (strata_kept._rows_of(known[:0], asked) == -1).all()


def test_no_group_is_written_down_in_clear_while_marks_are_made(tmp_path: Path) -> None:
    """A spool that a killed tokenization leaves has marks, which most often are another group."""
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    done = tokenize(source(tmp_path), "alpha", EVERYONE.signed, vault, strata=SEND)
    manifest, found = marks(vault, done.package)
    true = {f"r{i}": i % 4 for i in range(400)}
    order = {0: 1, 1: 2, 2: 3, 3: 4}
    right = np.mean([found[i][2] == order[true[i]] for i in found])
    p, _ = chances(2.0, 4)
    assert abs(right - p) < 5 * np.sqrt(p * (1 - p) / 400)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".csv":
            assert (
                b"asian" not in path.read_bytes().lower()
                or "study" in path.name
                or path.name == "manifest.json"
            )
    assert REST not in [g for one in manifest.strata for g in one.groups]
