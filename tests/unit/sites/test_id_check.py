"""A mistyped ID is found and never corrected: every wrong character, every swap of neighbours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage.errors import LinkageError, SourceRefused
from linkage.pseudonyms import format_id, random_ids
from sites.id_check import OTHERWISE, check_all, check_file, check_one
from tests.programs import run

DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHECKS = DIGITS + "*~$=U"
raws = st.binary(min_size=16, max_size=16)


def found(text: str) -> bool:
    try:
        check_one(text)
    except LinkageError as fault:
        return text not in fault.message + fault.hint
    return False


@given(raws)
def test_every_substitution_and_every_swap_is_found(raw: bytes) -> None:
    """All 26 * 31 + 36 substitutions and all 26 swaps of one ID, the check character's too."""
    good = format_id(raw)
    assert check_one(good) == ""
    for at, right in enumerate(good):
        for wrong in CHECKS if at == 26 else DIGITS:
            if wrong != right:
                assert found(good[:at] + wrong + good[at + 1 :]), (at, right, wrong)
    for at in range(26):
        if good[at] != good[at + 1]:
            assert found(good[:at] + good[at + 1] + good[at] + good[at + 2 :]), at


@given(raws, st.integers(0, 26))
def test_a_lost_or_added_character_is_found(raw: bytes, at: int) -> None:
    good = format_id(raw)
    assert found(good[:at] + good[at + 1 :])
    assert found(good[:at] + "7" + good[at:])


@pytest.mark.parametrize(
    "change",
    [str.lower, lambda t: t[:9] + "-" + t[9:], lambda t: t.replace("0", "O"), " {} ".format],
)
def test_what_is_read_leniently_is_told(change) -> None:  # type: ignore[no-untyped-def]
    good = format_id(bytes([0, 7] * 8))
    assert check_one(change(good)) == OTHERWISE


def test_a_file_names_the_rows(tmp_path: Path) -> None:
    ids = [format_id(row.tobytes()) for row in random_ids(4)]
    ids[1] = ids[1][1:] + ids[1][0] if ids[1][0] != ids[1][1] else ids[1][:-1]
    rows = [f"r{n},{one}" for n, one in enumerate([*ids, ids[0].lower(), ""])]
    path = tmp_path / "ids.csv"
    before = "record_id,cross_commons_id\n" + "\n".join(rows) + "\n"
    path.write_text(before)
    done = check_file(path)
    assert done.checked == 6
    assert [row for row, _ in done.wrong] == [3, 7]
    assert [row for row, _ in done.otherwise] in ([6], [])  # digits only have no small letters
    assert path.read_text() == before
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SourceRefused, match="no column cross_commons_id"):
        check_file(path)
    assert check_all([]).checked == 0


def test_the_command(tmp_path: Path) -> None:
    good = format_id(bytes(range(16)))
    done = run("linkage-site", "id", "check", good)
    assert (done.code, "Every ID holds" in done.out) == (0, True)
    wrong = good[:5] + ("X" if good[5] != "X" else "Y") + good[6:]
    done = run("linkage-site", "id", "check", wrong, "--json")
    assert done.code == 4
    assert json.loads(done.out)["wrong"][0]["row"] == 1
    assert good not in done.out + done.err
    missing = run("linkage-site", "id", "check", tmp_path / "none.csv")
    assert (missing.code, "no such file" in missing.err) == (4, True)
