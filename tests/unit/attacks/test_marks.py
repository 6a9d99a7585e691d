"""
What whoever holds the marks of groups makes of them: whose record it is, who is where else.

The strongest variables that a study may ask for: their epsilons come to 4. Marks are made by whole
tokenizations and read as the broker's worker reads them. The attackers know all else: everybody's
true groups, how common each is, and how marks are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from linkage.messages import BROKER, DATASET_PART
from linkage.records import from_arrow
from linkage.sealing import Context, unseal
from linkage.strata import Stratum
from sites.config import SourceConfig
from sites.packages import load_manifest, part_file
from sites.strata import Response
from sites.strata_config import StrataConfig
from sites.tokenizer import tokenize
from sites.vault import Vault
from tests.studies import STUDY, Cast, cast, vault_of

pytestmark = pytest.mark.threat("T24")

STRATA = """
[[strata]]
id = "sex"
groups = ["female", "male"]

[[strata]]
id = "birth-decade"
groups = [
    "before 1930", "1930s", "1940s", "1950s", "1960s", "1970s", "1980 or later",
]

[[strata]]
id = "race"
groups = ["asian", "black", "white"]
epsilon = 2.0
"""
EVERYONE = cast(STUDY + STRATA)
VARIABLES = EVERYONE.signed.study.strata
SEND = StrataConfig.model_validate({"send": True})
RACES = ("asian", "black", "white", "")
N = 2_000
"""People of a site; half of them are at the other one, too."""

Groups = npt.NDArray[np.int64]
"""int64[n, 3]: by person and variable, the number of the group, from 1. Marks are the same."""


def people(count: int) -> Groups:
    """Draw people of about the groups of a country."""
    draw = np.random.default_rng(11)
    sex = draw.integers(1, 3, count)
    decade = draw.choice(np.arange(1, 8), count, p=[0.05, 0.1, 0.15, 0.2, 0.2, 0.15, 0.15])
    race = draw.choice(np.arange(1, 5), count, p=[0.06, 0.13, 0.6, 0.21])
    return np.stack([sex, decade, race], axis=1)


def written(folder: Path, groups: Groups, numbers: range, party: str) -> SourceConfig:
    """Write a site's source of these people."""
    fields = ["first_name", "last_name", "date_of_birth", "sex", "race"]
    fields += ["zip"] if party == "beta" else []
    rows = [",".join(["id", *fields])]
    for n in numbers:
        sex, decade, race = groups[n].tolist()
        letters = "".join(chr(97 + int(digit)) for digit in str(n))
        born = f"{1 + n % 28:02}/{1 + n % 12:02}/{1910 + 10 * decade + n % 10}"
        row = [f"r{n}", f"Ada{letters}", f"Name{letters}", born, "FM"[sex - 1], RACES[race - 1]]
        rows.append(",".join([*row, *(["50601"] if party == "beta" else [])]))
    path = folder / f"{party}.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return SourceConfig.model_validate(
        {
            "file": path,
            "record_id": "id",
            "date_format": "DD/MM/YYYY",
            "columns": {one: one for one in fields if one != "race"},
            "subgroups": {"race": "race"},
        }
    )


def sent(everyone: Cast, party: str, vault: Vault, source: SourceConfig) -> Groups:
    """Tokenize and return the marks that the worker finds, by the person's number."""
    study = everyone.signed.study
    done = tokenize(source, party, everyone.signed, vault, strata=SEND)
    manifest = load_manifest(done.package)
    batches: list[pa.RecordBatch] = []
    for part in manifest.parts:
        details = (str(manifest.dataset), str(part.number), str(len(manifest.parts)))
        data = unseal(
            part_file(done.package, part.number).read_bytes(),
            sender=everyone.signed.pin(party),
            recipient=everyone.identities[BROKER],
            context=Context(study.study.id, party, BROKER, DATASET_PART, details),
        )
        batches += pa.ipc.open_stream(data).read_all().to_batches()
    records = from_arrow(batches, study, party, marked=True)
    assert records.strata is not None
    # Which record is whose, the test alone knows: to see who was right.
    ids = vault.load_map(manifest.dataset)
    order = np.argsort([int(ids[name.tobytes()][1:]) for name in records.pseudonyms])
    return np.asarray(records.strata[order], np.int64)


def matrix(one: Stratum) -> npt.NDArray[np.float64]:
    """Return the chance of each mark, by group: rows add up to 1."""
    p, q = one.chances
    size = len(one.named)
    return np.full((size, size), q) + np.eye(size) * (p - q)


def named(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> float:
    """
    Return the share of records whose best candidate is the right one, on average over ties.
    scores: by record and candidate; truth: each record's candidate.
    """
    best = scores >= scores.max(axis=1, keepdims=True) - 1e-9
    right = best[np.arange(len(truth)), truth]
    return float((right / best.sum(axis=1)).mean())


def likelihoods(marks: Groups, groups: Groups) -> npt.NDArray[np.float64]:
    """Return log chances of each record's marks, were it of each of these people."""
    return sum(
        np.log(matrix(one))[groups[None, :, i] - 1, marks[:, i, None] - 1]
        for i, one in enumerate(VARIABLES)
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Groups, Groups, Groups]:
    """Return everybody's groups, the marks at alpha (0 to N) and at beta (N / 2 to 3 N / 2)."""
    folder = tmp_path_factory.mktemp("marks")
    groups = people(N + N // 2)
    marks = []
    for party, numbers in (("alpha", range(N)), ("beta", range(N // 2, N + N // 2))):
        vault = vault_of(EVERYONE, party, folder / party)
        marks.append(sent(EVERYONE, party, vault, written(folder, groups, numbers, party)))
    return groups, marks[0], marks[1]


def test_marks_hardly_tell_which_of_the_people_known_a_record_is(
    world: tuple[Groups, Groups, Groups], record_property: Callable[[str, object], None]
) -> None:
    """The attacker lays the marks over a list of everybody at the site, with true groups."""
    groups, marks, _ = world
    known, everybody = groups[:N], np.arange(N)
    found = named(likelihoods(marks, known), everybody)
    apart = (known[:, None] != known[None]).sum(axis=2)
    in_clear = named(-apart.astype(float), everybody)
    record_property(
        "marks at epsilon 4 laid over a list of 2,000",
        f"{found:.2%} of the records named (blind {1 / N:.2%}, groups in clear {in_clear:.1%})",
    )
    # Nobody's odds shift by more than e^4; half of what groups in clear would tell is far above.
    assert found < min(np.exp(4) / N, in_clear / 2)
    # That the attack works: it beats a blind one.
    assert found > 1.5 / N


def test_marks_hardly_tell_who_is_at_another_commons(
    world: tuple[Groups, Groups, Groups], record_property: Callable[[str, object], None]
) -> None:
    """Of half the records at one site the person is at the other, marked there once more."""
    _, ours, theirs = world
    shared = ours[N // 2 :]
    scores = np.zeros((len(shared), N))
    for i, one in enumerate(VARIABLES):
        common = np.bincount(ours[:, i] - 1, minlength=len(one.named)) / N
        both = matrix(one).T @ (common[:, None] * matrix(one))
        alone = common @ matrix(one)
        scores += np.log(both / np.outer(alone, alone))[shared[:, i, None] - 1, theirs[:, i] - 1]
    found = named(scores, np.arange(len(shared)))
    record_property(
        "the same person at two commons found by marks alone",
        f"{found:.2%} (blind {1 / N:.2%})",
    )
    # Two records tell twice: e^8 would be the bound, and says nothing; what is measured does.
    assert found < 8 / N


def test_versions_deltas_and_epochs_average_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Six datasets of the same people, two of them of a later epoch, tell what one tells."""
    groups, few = people(600), range(600)
    source = written(tmp_path, groups, few, "alpha")
    vault = vault_of(EVERYONE, "alpha", tmp_path / "private")
    seen = [sent(EVERYONE, "alpha", vault, source) for _ in range(4)]
    later = cast(STUDY.replace("[study]", "[study]\nepoch = 2", 1) + STRATA)
    for path in (vault.identity_file, vault.study_key_file, vault.signed_study_file):
        path.unlink()
    vault_of(later, "alpha", tmp_path / "private")
    seen += [sent(later, "alpha", vault, source) for _ in range(2)]
    race = VARIABLES[2]
    fresh = Response(race)
    anew = [fresh.draw(groups[:, 2].astype(np.uint8)).astype(np.int64) for _ in seen]

    def guessed(marks: list[npt.NDArray[np.int64]]) -> float:
        common = np.bincount(groups[:, 2] - 1, minlength=4) / len(groups)
        chances = np.log(common) + sum(np.log(matrix(race))[:, one - 1].T for one in marks)
        return float((chances.argmax(axis=1) + 1 == groups[:, 2]).mean())

    # Datasets that are the same in every record are one observation, and are taken for one.
    apart = [m for i, m in enumerate(seen) if not any((m == other).all() for other in seen[:i])]
    one, six = guessed([seen[0][:, 2]]), guessed([marks[:, 2] for marks in apart])
    record_property(
        "race guessed from six datasets, two of a later epoch",
        f"{six:.0%}, from one of them {one:.0%} (drawn anew each time: {guessed(anew):.0%})",
    )
    assert len(apart) == 1
    assert six == one
    assert guessed(anew) > one + 0.1
