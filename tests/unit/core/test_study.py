"""The study file refuses what is unknown, weak or contradictory, by line and with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkage.errors import StudyRefused
from linkage.study import DEFAULT_DIFFUSION, FIELDS, expected_density, load_study, parse_study
from tests.studies import STUDY

LATER_FIELDS = """\
    { field = "last_name" },
    { field = "date_of_birth", bits = 140 },
"""
SPARSE_FIELDS = """\
    { field = "last_name", bits = 20 },
    { field = "date_of_birth", bits = 20 },
"""


def line_of(text: str, part: str) -> int:
    lines = [line.strip() for line in text.splitlines()]
    return 1 + (
        lines.index(part) if part in lines else [part in line for line in lines].index(True)
    )


def test_the_small_study_is_read_whole() -> None:
    study = parse_study(STUDY)
    assert [p.id for p in study.party] == ["alpha", "beta"]
    assert study.diffusion_of(study.clk[0]) == DEFAULT_DIFFUSION
    assert study.study.minimum_cell == 11
    assert 0.15 < expected_density(study.clk[0]) < 0.20


@pytest.mark.parametrize(
    ("old", "new", "place", "rule", "remedy"),
    [
        ('title = "A', 'titel = "A', "titel", "not a known key", "did you mean 'title'"),
        ('purpose = "To test with"\n', "", "[study]", "missing", "configs/"),
        ('"To test with"', '""', "purpose", "is empty", "write something"),
        ('"date_of_birth", "sex"]', '"dob", "sex"]', '"dob"', "unknown field 'dob'", "known"),
        ('"last_name:sound"', '"last_name:snd"', "snd", "no transform 'snd'", "initial"),
        ('"last_name:sound"', '"email"', '"email"', "no party holds", "drop the rule"),
        ('{ field = "sex", bits = 40 },\n', "", "fields = [", "at least 4", "attacked"),
        ('id = "name-dob-sex"', 'id = "x y"', "x y", "not a valid name", "small letters"),
        ('id = "sound-dob"', 'id = "first-last-dob"', "", "two [[match_key]]", "rename"),
        ('id = "beta"', 'id = "broker"', '"broker"', "no party may be named", "taken"),
        ('kind = "enclave"', 'kind = "imaging"', "", "two parties are of kind", "one of each"),
        ('["alpha", "beta"]', '["alpha", "gamma"]', "gamma", "is no party", "alpha, beta"),
        ('purpose = "To', 'minimum_cell = 5\npurpose = "To', "= 5", "too weak", "N3C"),
        ('purpose = "To', 'profile = "clkhash"\npurpose = "To', "clkhash", "graph", "accept"),
        ("[study]", "[counts]\nrounding = 20\n[study]", "= 20", "more coarsely", "at most"),
        ("[study]", "[counts]\nnoise = -1\n[study]", "= -1", "greater than or", "correct"),
        ('id = "name-dob-sex"', 'id = "n-d-s"\ndiffusion = 4', "= 4", "graph", "never below 5"),
        ("[study]", '[study]\nrelease_gate_exception = "no"', "= ", "20 to 500", "every party"),
        ("records = 100_000", "records = 0", "= 0", "greater than or equal to 1", "correct"),
        ('id = "name-dob-sex"', 'id = "n-d-s"\nlength = 999', "= 999", "not possible", "2048"),
        (LATER_FIELDS, SPARSE_FIELDS, "fields = [", "10 to 55 %", "bits"),
        ('title = "A small study"', "title = A", "title = A", "not valid TOML", "quotes"),
        ('title = "A small study"', 'title = "\\d"', "title = ", "not valid TOML", "backslash"),
    ],
)
def test_a_fault_is_named_with_line_and_remedy(
    old: str, new: str, place: str, rule: str, remedy: str
) -> None:
    assert old in STUDY
    text = STUDY.replace(old, new, 1)
    with pytest.raises(StudyRefused) as caught:
        parse_study(text)
    assert rule in caught.value.message
    assert remedy in caught.value.hint
    assert caught.value.line > 0
    if place:
        assert caught.value.line == line_of(text, place)


LOOKS = STUDY.replace("[[party]]", "[second_look]\n\n[[party]]", 1)


def test_a_study_without_the_table_allows_no_second_look() -> None:
    """Nor does one that was signed before there was such a table."""
    assert parse_study(STUDY).looks is None
    assert parse_study(LOOKS.replace("look]", "look]\nenabled = false", 1)).looks is None
    looks = parse_study(LOOKS).looks
    assert looks is not None
    assert (looks.most_per_record, looks.most_per_run, looks.wait_hours) == (5, 5_000, 24)
    assert looks.fields == FIELDS


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("most_per_record = 0", "greater than or equal to 1"),
        ("most_per_record = 101", "less than or equal to 100"),
        ("most_per_run = 1_000_001", "less than or equal to 1000000"),
        ("most_runs = 0", "greater than or equal to 1"),
        ("decoys = 0.0", "greater than or equal to 0.1"),
        ("decoys = 0.95", "less than or equal to 0.9"),
        ("wait_hours = 0", "greater than 0"),
        ("wait_hours = nan", "wait_hours"),
        ("fields = []", "no field may be compared"),
        ('fields = ["dob"]', "unknown field 'dob'"),
        ('fields = ["ssn", "ssn"]', "named twice"),
        ("most_per_day = 3", "not a known key"),
    ],
)
def test_the_bounds_of_second_looks_are_strict(line: str, rule: str) -> None:
    with pytest.raises(StudyRefused) as caught:
        parse_study(LOOKS.replace("look]", f"look]\n{line}", 1))
    assert rule in str(caught.value)
    assert caught.value.hint


def test_a_plain_profile_needs_the_risk_in_words_and_no_diffusion() -> None:
    plain = STUDY.replace(
        "purpose", 'profile = "clkhash"\naccept_graph_matching_risk = true\npurpose'
    )
    study = parse_study(plain)
    assert study.diffusion_of(study.clk[0]) == 0
    with pytest.raises(StudyRefused, match="no diffusion"):
        parse_study(plain.replace('id = "name-dob-sex"', 'id = "n-d-s"\ndiffusion = 10'))


def test_what_only_the_gate_can_judge_is_left_to_the_gate() -> None:
    """Length, depth from 5 on, and the number of CLKs had fixed limits before there was a gate."""
    clk = STUDY[STUDY.index("[[clk]]") : STUDY.index("[[match_key]]")]
    more = clk.replace("name-dob-sex", "second") + clk.replace("name-dob-sex", "third")
    shallow = STUDY.replace('id = "name-dob-sex"', 'id = "name-dob-sex"\ndiffusion = 5')
    assert len(parse_study(STUDY + more).clk) == 3
    assert parse_study(shallow).diffusion_of(parse_study(shallow).clk[0]) == 5
    long = clk.replace('id = "name-dob-sex"', 'id = "long"\nlength = 4096').replace("140", "400")
    assert parse_study(STUDY + long).clk[1].length == 4096


@pytest.mark.parametrize(("length", "taken"), [(19, False), (20, True), (500, True), (501, False)])
def test_an_exception_from_the_gate_is_a_reason_in_words(length: int, taken: bool) -> None:
    words = "why it may run unmeasured".ljust(length, ".")[:length]
    text = STUDY.replace("[study]", f'[study]\nrelease_gate_exception = "{words}"')
    if taken:
        assert parse_study(text).study.release_gate_exception == words
    else:
        with pytest.raises(StudyRefused, match="20 to 500"):
            parse_study(text)


def test_a_party_computes_only_what_its_fields_allow() -> None:
    text = STUDY + '[[match_key]]\nid = "last-zip"\nfields = ["last_name", "zip:3"]\n'
    study = parse_study(text)
    alpha, beta = study.party
    assert [r.id for r in study.rules_of(alpha)] == ["first-last-dob", "sound-dob"]
    assert [r.id for r in study.rules_of(beta)] == ["first-last-dob", "sound-dob", "last-zip"]


def test_missing_and_garbled_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(StudyRefused, match="no such file"):
        load_study(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(StudyRefused, match=r"bytes\.toml"):
        load_study(tmp_path / "bytes.toml")


def test_a_mark_of_windows_before_the_text_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("\ufeff" + STUDY, encoding="utf-8")
    assert load_study(tmp_path / "study.toml") == parse_study(STUDY)


def test_contributors_tokenize_for_a_party_and_it_then_does_not() -> None:
    text = STUDY.replace('id = "alpha"', 'id = "alpha"\ncontributors = ["north", "south"]')
    study = parse_study(text)
    alpha, beta = study.party
    assert study.uploaders_of(alpha) == ("north", "south")
    assert study.uploaders_of(beta) == ("beta",)
    assert study.uploaders == ("north", "south", "beta")
    assert study.actors == ("alpha", "north", "south", "beta")
    assert study.party_of_uploader("south") == alpha
    assert study.party_of_uploader("beta") == beta
    for nobody in ("alpha", "east", ""):
        with pytest.raises(StudyRefused, match="tokenizes for no party") as caught:
            study.party_of_uploader(nobody)
        assert "north, south, beta" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        ('["north", "north"]', "'north' is a party or a contributor already"),
        ('["beta"]', "'beta' is a party or a contributor already"),
        ('["alpha"]', "'alpha' is a party or a contributor already"),
        ('["broker"]', "no party may be named 'broker'"),
        ('["custodian"]', "no party may be named 'custodian'"),
        ('["North"]', "not a valid name"),
        (str([f"hospital-{i}" for i in range(60)]), "61 uploaders"),
    ],
)
def test_everybody_has_a_name_of_its_own(names: str, rule: str) -> None:
    with pytest.raises(StudyRefused) as caught:
        parse_study(STUDY.replace('id = "alpha"', f'id = "alpha"\ncontributors = {names}'))
    assert rule in caught.value.message
    assert caught.value.hint
    assert caught.value.line > 0


def test_sixty_uploaders_are_possible() -> None:
    names = str([f"hospital-{i}" for i in range(59)])
    study = parse_study(STUDY.replace('id = "alpha"', f'id = "alpha"\ncontributors = {names}'))
    assert len(study.uploaders) == 60
