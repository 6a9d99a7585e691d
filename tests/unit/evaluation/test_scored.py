"""A linkage in detail: equal to counting pair by pair, errors by kind, files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from linkage.cli import app
from linkage.errors import LinkageError, SourceRefused
from linkage.evaluation.quality import score
from linkage.evaluation.quality_files import Links, TruthFile, read_links, read_truth_file
from linkage.evaluation.quality_groups import FEW
from linkage.evaluation.quality_report import page
from linkage.evaluation.scored import Scored, curve, score_links

_LABELS = st.sampled_from(["a", "b", "c", "d"])
_SIDE = st.lists(st.tuples(_LABELS, st.none() | _LABELS), max_size=8)


@given(left=_SIDE, right=_SIDE)
def test_equal_to_counting_by_id_and_person(
    left: list[tuple[str, str | None]], right: list[tuple[str, str | None]]
) -> None:
    sides = {"one": left, "two": right}
    ids = {p: {str(i): given for i, (given, _) in enumerate(s)} for p, s in sides.items()}
    truth = {p: {str(i): who for i, (_, who) in enumerate(s) if who} for p, s in sides.items()}
    links = Links({p: list(held) for p, held in ids.items()}, ids, {})
    scored = score_links(links, TruthFile("truth.csv", truth, {}))
    assert scored.quality == score(ids, truth)
    assert sum(scored.false.values()) == scored.quality.overall.false
    assert sum(scored.missed.values()) == scored.quality.overall.missed


TRUTH = """truth_id,north,south,sex,household,twins
p1,N1,S1,female,H1,
p2,N2,S2,female,H1,
p3,N3,S3,male,H2,W1
p4,N4,S4,male,H2,W1
p5,N5,S5,male,H3,
p6,N6,,male,H4,
"""
PAIRS = """left_party,left_id,right_party,right_id,probability
north,N1,south,S1,0.9
south,S2,north,N1,0.8
north,N3,south,S4,0.7
north,N4,south,S4,0.4
north,N6,south,S5,0.5
north,N9,south,S9,0.6
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "truth.csv").write_text(TRUTH)
    (tmp_path / "pairs.csv").write_text(PAIRS)
    return tmp_path


def _scored(folder: Path, **options: object) -> Scored:
    links = read_links(folder / "pairs.csv")
    return score_links(links, read_truth_file(folder / "truth.csv", links.records), **options)  # type: ignore[arg-type]


def test_errors_by_kind(folder: Path) -> None:
    scored = _scored(folder)
    whole = scored.quality.overall
    assert (whole.found, whole.true, whole.correct) == (5, 5, 1)  # .5 links, .4 does not
    assert scored.false == {"one household": 1, "twins": 1, "two persons": 1, "not in the truth": 1}
    assert scored.missed == {"record not listed": 3, "below the threshold": 1}
    assert scored.quality.unknown == {"north": 1, "south": 1}
    assert _scored(folder, threshold=0.4).quality.overall.correct == 2


def test_ids_and_the_records_they_leave_out(folder: Path) -> None:
    ids = {
        "north": {"N1": "a", "N2": "b", "N5": "e"},
        "south": {"S1": "a", "S2": "c", "S3": "d", "S5": "a"},
    }
    links = Links({party: list(held) for party, held in ids.items()}, ids, {})
    scored = score_links(links, read_truth_file(folder / "truth.csv", links.records))
    assert scored.missed == {
        "record left out": 2,
        "linked to nobody": 1,
        "linked to another": 1,
    }
    assert (scored.threshold, scored.curves) == (None, {})
    with pytest.raises(LinkageError, match="whatever the threshold"):
        score_links(links, read_truth_file(folder / "truth.csv", links.records), threshold=0.5)


def test_subgroups_count_pairs_of_either_record(tmp_path: Path) -> None:
    sex = ["female" if i < 15 else "male" if i < 30 else "other" for i in range(33)]
    rows = "".join(f"N{i},S{i},{one}\n" for i, one in enumerate(sex))
    (tmp_path / "truth.csv").write_text(f"north,south,sex\n{rows}")
    pairs = "".join(f"N{i},S{i or 20}\n" for i in range(28))
    (tmp_path / "pairs.csv").write_text(f"north,south\n{pairs}")
    groups = {one.value: one.overall for one in _scored(tmp_path).groups}
    assert set(groups) == {"female", "male"}  # of three persons nothing is told
    assert FEW not in groups
    assert (groups["female"].found, groups["female"].true, groups["female"].correct) == (15, 15, 14)
    assert (groups["male"].found, groups["male"].true, groups["male"].correct) == (14, 15, 13)


@pytest.mark.parametrize("group", ["[unknown]", "[/b]", "\\[red]"])
def test_a_groups_name_is_shown_as_it_is(tmp_path: Path, group: str) -> None:
    """As markup it was not to be seen, or ended the command as a bug."""
    rows = "".join(f"N{i},S{i},{group if i % 2 else 'male'}\n" for i in range(40))
    (tmp_path / "truth.csv").write_text(f"north,south,sex\n{rows}")
    pairs = "".join(f"N{i},S{i}\n" for i in range(40))
    (tmp_path / "pairs.csv").write_text(f"north,south\n{pairs}")
    done = CliRunner().invoke(
        app, ["evaluate", str(tmp_path / "pairs.csv"), str(tmp_path / "truth.csv")]
    )
    assert done.exit_code == 0, done.output
    assert f"  {group} " in done.output


@given(
    said=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=9),
    missing=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_curve_is_counting_at_each_threshold(said: list[float], missing: int, seed: int) -> None:
    correct = np.random.default_rng(seed).random(len(said)) < 0.5
    true = int(correct.sum()) + missing
    made = curve(np.array(said), correct, true)
    for point in made.points:
        taken = np.array(said) >= point.threshold
        assert point.found == taken.sum()
        assert point.recall == ((taken & correct).sum() / true if true else 1.0)
    assert made.best.f1 >= max(point.f1 for point in made.points if point.found) - 1e-12


def test_the_report_stands_alone_and_names_no_record(folder: Path) -> None:
    scored = _scored(folder)
    text = page(scored, command="linkage evaluate <pairs>.csv truth.csv")
    assert "http" not in text
    assert "<script" not in text
    assert "linkage evaluate &lt;pairs&gt;.csv" in text
    assert "one household" in text
    assert "below the threshold" in text
    told = text + json.dumps(scored.as_json())
    assert not [f"{side}{i}" for side, i in product("NS", range(1, 10)) if f">{side}{i}<" in told]


def _run(*args: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *(str(arg) for arg in args)])


def test_the_command_writes_a_report_and_the_wrong_pairs(folder: Path) -> None:
    out = ("--html", folder / "r.html", "--errors", folder / "e.csv")
    done = _run(folder / "pairs.csv", folder / "truth.csv", *out)
    assert done.exit_code == 0, done.output
    assert "twins 1" in done.stdout
    assert "Brier" in done.stdout
    lines = (folder / "e.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 + 4
    assert "north,N3,south,S4,false,twins,0.7" in lines
    assert "Linkage against the truth" in (folder / "r.html").read_text()
    made = json.loads(_run(folder / "pairs.csv", folder / "truth.csv", "--json").stdout)
    assert made["calibration"]["north - south"]["brier"] > 0
    assert made["curves"]["north - south"]["best"]["f1"] > 0


def _edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / name
        path.write_text(path.read_text().replace(old, new))

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_edit("pairs.csv", "S1,0.9", "S1,1.9"), "row 2, field 'probability': is outside 0 to 1"),
        (_edit("pairs.csv", "S1,0.9", "S1,nan"), "row 2, field 'probability': is outside"),
        (_edit("pairs.csv", "S1,0.9", "S1,likely"), "row 2, field 'probability': is no number"),
        (_edit("pairs.csv", "S1,0.9", ",0.9"), "row 2, field 'right_id': is empty"),
        (_edit("pairs.csv", "N4,south,S4", "N3,south,S4"), "row 5: repeats the pair"),
        (_edit("pairs.csv", "left_id", "who"), "is no list of pairs by its header"),
        (_edit("pairs.csv", PAIRS, ""), "pairs.csv: is empty"),
        (_edit("pairs.csv", PAIRS.partition("\n")[2], ""), "lists no pair"),
        (_edit("truth.csv", TRUTH, ""), "truth.csv: is empty"),
        (_edit("truth.csv", ",N1,", ",N1,,"), "row 2: has another number of cells"),
        (_edit("truth.csv", "N2,S2", "N1,S2"), "row 3, field 'north': names a record that"),
        (_edit("truth.csv", "p1,", ","), "row 2, field 'truth_id': is empty"),
        (_edit("truth.csv", "p2,", "p1,"), None),
        (_edit("truth.csv", "p5,N5,S5,male", "p1,N5,S5,male"), "row 6, field 'sex': differs"),
        (_edit("truth.csv", "north", "n"), "no one column is that of party 'north'"),
    ],
)
def test_mistakes_are_named_without_a_value(
    folder: Path, edit: Callable[[Path], None], said: str | None
) -> None:
    if said == "no one column is that of party 'north'":
        _edit("truth.csv", ",N", ",X")(folder)
    edit(folder)
    done = _run(folder / "pairs.csv", folder / "truth.csv")
    if said is None:
        assert done.exit_code == 0, done.output
        return
    assert done.exit_code == 4, done.output
    assert said in " ".join(done.stderr.split())
    assert "What to do: " in done.stderr
    assert not [value for value in ("N1", "S1", "1.9", "likely") if value in done.stderr]


def test_wrong_arguments_are_explained(folder: Path) -> None:
    truth = folder / "truth.csv"
    for args, said in [
        ((folder / "none.csv", truth), "is not there"),
        ((folder, truth), "record_id"),
        ((folder / "pairs.csv", folder), "is a folder"),
        ((truth, folder / "pairs.csv"), "is no list of pairs"),
        ((folder / "pairs.csv", truth, "--by", "age"), "there is no column 'age'"),
        ((folder / "pairs.csv", truth, "--column", "north=sex"), "no record of party 'north'"),
        ((folder / "pairs.csv", truth, "--column", "east=sex"), "no parties of these links"),
        ((folder / "pairs.csv", truth, "--html", folder / "no" / "r.html"), "is not there"),
    ]:
        done = _run(*args)
        assert done.exit_code in (4, 7), done.output
        assert said in " ".join(done.stderr.split())


def test_lists_of_other_makers_are_read(folder: Path) -> None:
    """Splink's columns; and two columns, semicolons between, without probabilities."""
    theirs = "source_dataset_l,unique_id_l,source_dataset_r,unique_id_r,match_probability"
    ours = PAIRS.splitlines()[0]
    _edit("pairs.csv", ours, theirs)(folder)
    assert _scored(folder).quality.overall.found == 5
    (folder / "pairs.csv").write_text("north;south\nN1;S1\nN2;S3\n")
    scored = _scored(folder)
    assert (scored.quality.overall.found, scored.quality.overall.correct) == (2, 1)
    (folder / "pairs.csv").write_text("left_party,left_id,right_party,right_id\nn,1,n,2\n")
    with pytest.raises(SourceRefused, match="within a party only"):
        read_links(folder / "pairs.csv")


IDS = {
    "north": "record_id,cross_commons_id\nN1,a\nN2,b\nN3,c\nN4,d\nN5,e\nN9,z\n",
    "south": "record_id,cross_commons_id\nS1,a\nS2,c\nS3,f\nS4,d\nS5,g\nS9,y\n",
}
WEIGHED = """left_party,left_id,right_party,right_id,probability
south,S1,north,N1,0.95
north,N3,south,S2,0.6
north,N4,south,S4,0.9
north,N3,south,S3,0.4
north,N9,south,S9,0.1
"""


@pytest.fixture
def rehearsed(folder: Path) -> Path:
    """A rehearsal's folder: IDs, and the pairs that the run weighed."""
    (folder / "out" / "ids").mkdir(parents=True)
    for party, text in IDS.items():
        (folder / "out" / "ids" / f"{party}.csv").write_text(text)
    (folder / "out" / "pairs.csv").write_text(WEIGHED)
    return folder


def test_a_rehearsals_folder_has_links_and_probabilities(rehearsed: Path) -> None:
    out, truth = rehearsed / "out", rehearsed / "truth.csv"
    links = read_links(out)
    scored = score_links(links, read_truth_file(truth, links.records))
    bare = read_links(out / "ids")
    plain = score_links(bare, read_truth_file(truth, bare.records))
    assert scored.quality == plain.quality  # the IDs say what is linked
    assert (scored.threshold, plain.curves) == (None, {})
    # N2 - S2: S2 is taken. N3 - S3: N3 is taken. N5 - S5: nobody proposed it.
    assert scored.missed == {"linked to another": 2, "no candidate": 1}
    assert plain.missed == {"linked to another": 2, "linked to nobody": 1}
    listed = read_links(out / "pairs.csv")
    alone = score_links(listed, read_truth_file(truth, listed.records))
    assert scored.calibration == alone.calibration
    assert {p.threshold: p.found for p in scored.curves["north - south"].points}[0.9] == 2
    wrong = scored.wrong[0]
    said = dict(
        zip(zip(wrong.left_ids, wrong.right_ids, strict=True), wrong.probability, strict=True)
    )
    assert said["N3", "S2"] == 0.6
    assert said["N3", "S3"] == 0.4
    assert np.isnan(said["N5", "S5"])
    text = page(scored, command="linkage evaluate out truth.csv")
    assert "Reliability diagram" in text
    assert "thresholds of their own" in text


def test_the_command_takes_pairs_beside_ids(rehearsed: Path) -> None:
    out, truth = rehearsed / "out", rehearsed / "truth.csv"
    for arguments in ((out,), (out / "ids", "--pairs", out / "pairs.csv")):
        made = json.loads(_run(arguments[0], truth, *arguments[1:], "--json").stdout)
        assert made["calibration"]["north - south"]["brier"] > 0
        assert made["threshold"] is None
    assert "--pairs" in _run(out / "ids", truth).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("out", "truth.csv", "--threshold", 0.5), "whatever the threshold"),
        (("out/pairs.csv", "truth.csv", "--pairs", "out/pairs.csv"), "is a list of pairs already"),
        (("out/ids/north.csv", "truth.csv"), "has the IDs of one party"),
        (("out", "truth.csv", "--pairs", "truth.csv"), "is no list of pairs"),
        (("out", "truth.csv", "--pairs", "none.csv"), "is not there"),
        (("out", "truth.csv", "--pairs", "bare.csv"), "has no column `probability`"),
        (("out", "truth.csv", "--pairs", "east.csv"), "names 1 parties that have no IDs"),
        (("out", "truth.csv", "--pairs", "gone.csv"), "names 1 records of 'north' that have no ID"),
        (("truth.csv", "out"), "links come first, then the truth"),
        (("out", "out"), "links come first, then the truth"),
        (("out", "bare-truth.csv", "--by", "sex"), "it has record ids only"),
    ],
)
def test_pairs_and_ids_that_do_not_fit(
    rehearsed: Path, arguments: tuple[object, ...], said: str
) -> None:
    head, first = WEIGHED.splitlines()[:2]
    bare = f"{head}\n{first}\n".replace(",probability", "").replace(",0.95", "")
    (rehearsed / "bare.csv").write_text(bare)
    (rehearsed / "east.csv").write_text(f"{head}\neast,E1,north,N1,0.5\n")
    (rehearsed / "gone.csv").write_text(f"{head}\nsouth,S1,north,N77,0.5\n")
    (rehearsed / "bare-truth.csv").write_text("truth_id,north,south\np1,N1,S1\n")
    done = _run(
        *(rehearsed / one if str(one)[0].islower() else one for one in arguments[:2]),
        *(rehearsed / one if str(one).endswith(".csv") else one for one in arguments[2:]),
    )
    assert done.exit_code in (4, 7), done.output
    assert said in " ".join(done.stderr.split())
    assert "N77" not in done.stderr
