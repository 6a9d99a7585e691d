"""Which fields differ in wrong pairs, by clear-text files that the evaluator holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from linkage.cli import app

FILES = {
    "ids/north.csv": "record_id,cross_commons_id\nN1,a\nN2,b\nN3,c\nN4,d\n",
    "ids/south.csv": "record_id,cross_commons_id\nS1,a\nS2,x\nS3,y\nS4,c\n",
    "truth.csv": "truth_id,north,south\np1,N1,S1\np2,N2,S2\np3,N3,S3\np4,N4,S4\n",
    "north.psv": """RECORD|First Name|middle_initial|last_name|dob|town
N1|Ann|M|O'Brien|02/01/1950|X
N2|Ann|M|O'Brien|02/01/1950|X
N3|Bob||Lee|03/31/1960|X
N4|Cyd|Q|Ray|12/24/1970|X
""",
    "south.csv": """key,given,middle_name,family,date_of_birth,town
S1,ANN,Mary,OBRIEN,1950-02-01,X
S2,ann,Mary,Smith,1950-02-01,X
S3,Rob,Paul,Lee,1960-03-31,X
S4,Bob,,Lee,1960-03-31,X
""",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ids").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def _run(folder: Path, *args: object) -> Result:
    both = ("--records", f"north={folder / 'north.psv'}")
    both += ("--records", f"south={folder / 'south.csv'}")
    files = (folder / "ids", folder / "truth.csv")
    return CliRunner().invoke(app, ["evaluate", *map(str, (*files, *(args or both)))])


def _both(folder: Path) -> tuple[str, ...]:
    north, south = folder / "north.psv", folder / "south.csv"
    return ("--records", f"north={north}", "--records", f"south={south}")


def test_fields_of_wrong_pairs_are_counted_normalised(folder: Path) -> None:
    done = _run(folder, *_both(folder), "--json", "--html", folder / "r.html")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["fields"]
    # Missed: N2-S2 (surname changed), N3-S3 (Bob, Rob; no middle name), N4-S4. False: N3-S4.
    assert found["missed"] == {
        "first_name": {"same": 1, "differs": 2, "missing": 0},
        "middle_name": {"same": 1, "differs": 0, "missing": 2},  # M and Mary: an initial agrees
        "last_name": {"same": 1, "differs": 2, "missing": 0},
        "date_of_birth": {"same": 2, "differs": 1, "missing": 0},
    }
    assert found["false"]["last_name"] == {"same": 1, "differs": 0, "missing": 0}
    assert found["without"] == {
        "last_name": 1,
        "first_name + middle_name": 1,
        "first_name + middle_name + last_name + date_of_birth": 1,
    }
    assert found["unread"] == 0
    table = _run(folder).stdout
    assert "date of birth" in table
    assert "not the same in missed pairs: last name 1; first name + middle name 1" in table
    html = (folder / "r.html").read_text()
    assert "Which fields differ" in html
    assert not [value for value in ("Brien", "N2", "1950") if value in html + table]


def test_records_that_the_files_lack_are_told(folder: Path) -> None:
    text = FILES["south.csv"].replace("S2,", "S7,")
    (folder / "south.csv").write_text(text)
    (found,) = json.loads(_run(folder, *_both(folder), "--json").stdout)["fields"]
    assert found["unread"] == 1
    assert found["missed"]["last_name"] == {"same": 1, "differs": 1, "missing": 0}
    assert "1 of these pairs" in _run(folder).stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--records", "north=north.psv"), "between two parties"),
        (("--records", "north"), "write PARTY=FILE"),
        (("--records", "east=a", "--records", "north=b"), "names 1 that are no parties"),
        (("--records", "north=south.csv", "--records", "south=south.csv"), "no column holds most"),
        (("--records", "north=none.csv", "--records", "south=south.csv"), "is not there"),
        (("--records", "north=bare.csv", "--records", "south=south.csv"), "the name of a field"),
        (("--records", "north=twice.csv", "--records", "south=south.csv"), "repeats a record id"),
    ],
)
def test_files_that_cannot_be_compared(folder: Path, args: tuple[str, ...], said: str) -> None:
    rows = FILES["north.psv"].splitlines()
    (folder / "bare.csv").write_text("key\nN1\nN2\nN3\nN4\n")
    (folder / "twice.csv").write_text("\n".join([*rows, rows[1]]))
    placed = [one.replace("=", f"={folder}/") for one in args]
    done = _run(folder, *placed)
    assert done.exit_code in (2, 4, 7), done.output
    assert said in " ".join(done.stderr.split())
    assert not [value for value in ("Brien", "N1") if value in done.stderr]
