"""
Parameters of a CLK, and what each choice costs: quality of the link against leakage.

    sides = simulated_sides(study, "name-dob-sex", n=10_000, seed=1)
    sweep = Sweep(study, sides, crowd=simulated(20_000, ...))
    sweep.measure(Setting("name-dob-sex", 2048, 12)).found      # {4000: 0.009, 20000: 0.02}

Quality is F1 between two desks that registered partly the same people. `clk_f1` is what the CLK
alone allows: pairs taken best first by z, one to one, at the best threshold with hindsight; cheap,
and good for ranking settings. `linked_f1` is the whole program with match keys, at the threshold
that it chose itself without the truth.

Leakage is the share of people that an attacker names who knows 5 % of them and has a list of all
(`likelihood.ListAttacker`), measured at declared sizes as far as there are people, and foretold
beyond (`prediction.Energies`); and two correlations of similarities on the first people: between
two keys' encodings, and with what the attacker expects to see.
Many settings in a row, tables and plots: linkage.evaluation.frontier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from linkage.encoding.encoder import encode_records
from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError
from linkage.evaluation.attacks.best_guess import centred_both
from linkage.evaluation.attacks.crowds import Crowd, simulated
from linkage.evaluation.attacks.likelihood import ListAttacker
from linkage.evaluation.attacks.similarity import (
    Floats2D,
    centred,
    correlation,
    encoded,
    expected,
    observed,
    undiffused,
)
from linkage.evaluation.mistakes import RATES
from linkage.evaluation.prediction import Energies, unrelated
from linkage.matching.dataset import POPCOUNT_BAND, Dataset, popcounts, words_of
from linkage.matching.dice import pairs_reaching
from linkage.matching.engine import link
from linkage.matching.estimates import Point
from linkage.matching.zscore import bound_for, calibrate, zscores
from linkage.pseudonyms import ContributorSecret
from linkage.records import FixedColumn
from linkage.schema import schema_hash
from linkage.study import ClkField, ClkSpec, Party, StudyConfig, expected_density, parse_field

LEAK_PEOPLE = 2_000
DRAWS = 2
"""Key draws a setting: enough to rank settings; a release gate takes more."""
KNOWN_SHARE = 0.05
TARGETS = 1_000
"""Records that the list attacker searches for: at 1 % found, a standard error of .3 %."""
SIZES = (4_000,)
FORETOLD = (20_000, 100_000, 1_000_000)
"""Declared sizes, in people: measured where the crowd is as large, foretold."""
LOST = 0.2
"""A share found from which larger sizes are not foretold: they are worse."""
LEAST_Z = 3.0
"""Pairs below it are never looked at: far below any threshold that links at these sizes."""


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One choice of parameters for one CLK of a study.

    scale: factor on every field's bits. without: field refs left out. added: "field=bits" put in.
    """

    clk: str
    length: int
    diffusion: int
    scale: float = 1.0
    without: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def fields(self) -> str:
        """Return in words how the fields differ from the study's; "" where they do not."""
        return " ".join([*(f"-{ref}" for ref in self.without), *(f"+{one}" for one in self.added)])

    def spec(self, study: StudyConfig) -> ClkSpec:
        """
        Return the CLK so changed. The study file's limits are not asked: a sweep looks past them.

        Raises LinkageError where the study has no such CLK, or it has no such field.
        """
        clk = next((one for one in study.clk if one.id == self.clk), None)
        if clk is None or not set(self.without) <= {one.field for one in clk.fields}:
            raise LinkageError(
                f"the study has no CLK {self.clk!r} with these fields",
                hint=f"its CLKs: {', '.join(one.id for one in study.clk)}",
            )
        fields = [one for one in clk.fields if one.field not in self.without]
        for text in self.added:
            ref, _, bits = text.partition("=")
            fields.append(ClkField(field=ref, bits=int(bits or 100)))
        scaled = [one.model_copy(update={"bits": round(one.bits * self.scale)}) for one in fields]
        return clk.model_copy(
            update={"fields": tuple(scaled), "length": self.length, "diffusion": self.diffusion}
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """
    What a setting costs and gives. f1, precision, recall lie in [0, 1]; None: not linked.

    density: share of bits that a full record sets before diffusion. people, true_pairs: of a side,
    and common to both. correlation, attacker_correlation: the worst of `draws`, on `leak_people`.
    found, foretold: share of people named, by declared size, with 5 % of them known. Sizes past
    one at which LOST is exceeded are left out.
    said_precision, said_recall: what the program expected of its links.
    """

    setting: Setting
    density: float
    people: int
    true_pairs: int
    leak_people: int
    draws: int
    correlation: float
    attacker_correlation: float
    found: Mapping[int, float]
    foretold: Mapping[int, float]
    clk_f1: float
    linked_f1: float | None = None
    linked_precision: float | None = None
    linked_recall: float | None = None
    said_precision: float | None = None
    said_recall: float | None = None

    def as_json(self) -> dict[str, Any]:
        plain = asdict(self)
        for name in ("found", "foretold"):
            plain[name] = {str(n): share for n, share in plain[name].items()}
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Measured:
        """Read what `as_json` wrote."""
        chosen = plain["setting"]
        lists = {name: tuple(chosen[name]) for name in ("without", "added")}
        shares = {
            name: {int(n): share for n, share in plain[name].items()}
            for name in ("found", "foretold")
        }
        return cls(**{**plain, "setting": Setting(**{**chosen, **lists}), **shares})


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sides:
    """Two desks' files of partly the same people: equal `person` numbers are one person."""

    left: Crowd
    right: Crowd
    name: str

    def __reduce__(self) -> Any:
        raise TypeError("the sides of a sweep refuse pickling: they hold identifiers")

    @property
    def true_pairs(self) -> int:
        return len(np.intersect1d(self.left.person, self.right.person))


def holders(study: StudyConfig, clk: ClkSpec) -> tuple[Party, Party]:
    """Return the first two parties that compute the CLK. Raises LinkageError if there are not."""
    held = [party for party in study.party if clk in study.clks_of(party)]
    if len(held) < 2:
        raise LinkageError(
            f"no two parties compute the CLK {clk.id!r}", hint="sweep a CLK that two parties hold"
        )
    return held[0], held[1]


def common_fields(study: StudyConfig, clk: ClkSpec) -> tuple[str, ...]:
    """Return the identifier fields that both parties of the CLK hold, in the first one's order."""
    one, other = holders(study, clk)
    return tuple(field for field in one.fields if field in other.fields)


def simulated_sides(study: StudyConfig, clk_id: str, *, n: int, seed: int = 1) -> Sides:
    """
    Return `n` simulated people a side, half of them common, each as its desk wrote them down.

    A desk is that of the party's own name where the simulation knows one, else imaging, enclave.
    """
    clk = next(one for one in study.clk if one.id == clk_id)
    fields = common_fields(study, clk)
    total = n + n // 2
    order = np.random.default_rng([seed, 77]).permutation(total)
    sides = []
    for party, desk, rows in zip(
        holders(study, clk), ("imaging", "enclave"), (order[:n], order[-n:]), strict=True
    ):
        registered = party.id if party.id in RATES else desk
        crowd = simulated(total, seed=seed, fields=fields, registered=registered)
        sides.append(crowd.rows(rows))
    return Sides(sides[0], sides[1], f"simulated, seed {seed}, {n:,} a side")


class Sweep:
    """
    Measures settings of one study on two sides of people. Keeps what settings share.

    crowd: people on whom the leakage is measured, whole households side by side, in words: `whom`;
    sizes: how many of them at once, those larger than the crowd are left out.
    run: what a figure depends on besides its setting; JSON-able.
    """

    def __init__(
        self,
        study: StudyConfig,
        sides: Sides,
        crowd: Crowd,
        *,
        whom: str = "",
        sizes: tuple[int, ...] = SIZES,
        targets: int = TARGETS,
        draws: int = DRAWS,
        seed: int = 1,
    ) -> None:
        self.study, self.sides, self.draws, self.seed = study, sides, draws, seed
        self.run = {"sides": sides.name, "whom": whom, "seed": seed, "draws": draws}
        self.run["schema"] = schema_hash(study)
        self._crowd, self._targets = crowd, targets
        self._sizes = tuple(n for n in sizes if n <= len(crowd)) or (len(crowd),)
        self._watched = crowd.rows(np.arange(min(LEAK_PEOPLE, len(crowd))))
        self._strangers = unrelated(self._watched, seed=seed)
        self._same: Setting | None = None
        self._agreement: Floats2D = np.zeros((0, 0), np.float32)
        self._chance = self._agreement
        self._attackers: dict[int, ListAttacker] = {}

    def measure(self, setting: Setting, *, whole: bool = False) -> Measured:
        """Measure one setting; `whole` also runs the whole program with match keys."""
        clk = setting.spec(self.study)
        study = self.study.model_copy(update={"clk": (clk,)})
        self._expect(clk, setting)
        two_keys, attacker = self._leakage(study, clk, setting)
        found = {
            n: one.against(study, clk, StudyKey.generate()).share
            for n, one in self._attackers.items()
        }
        made = Measured(
            setting=setting,
            density=expected_density(clk),
            people=len(self.sides.left),
            true_pairs=self.sides.true_pairs,
            leak_people=len(self._watched),
            draws=self.draws,
            correlation=two_keys,
            attacker_correlation=attacker,
            found=found,
            foretold=self._foretold(clk, setting),
            clk_f1=self._clk_f1(study, clk),
        )
        if not whole:
            return made
        said, precision, recall = self._linked(study, clk)
        return replace(
            made,
            linked_f1=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
            linked_precision=precision,
            linked_recall=recall,
            said_precision=said.precision,
            said_recall=said.recall,
        )

    def _leakage(self, study: StudyConfig, clk: ClkSpec, setting: Setting) -> tuple[float, float]:
        """Return the worst correlation between two keys, and with what an attacker expects."""
        columns = [
            encoded(study, clk, self._watched, StudyKey.generate()) for _ in range(self.draws)
        ]
        seen = [centred(observed(column), column.present) for column in columns]
        guessed = centred(self._agreement ** max(setting.diffusion, 1), columns[0].present)
        between = [correlation(seen[0], other) for other in seen[1:]]
        return max(between, default=0.0), max(correlation(one, guessed) for one in seen)

    def _foretold(self, clk: ClkSpec, setting: Setting) -> dict[int, float]:
        """Return the share to be found at sizes that are not measured."""
        views = [
            centred_both(one ** max(setting.diffusion, 1)) * np.float32(clk.length**0.5)
            for one in (self._agreement, self._chance)
        ]
        energies = Energies.of([views[0]], chance=[views[1]])
        shares: dict[int, float] = {}
        for n in FORETOLD:
            shares[n] = energies.share(n, known_share=KNOWN_SHARE)
            if shares[n] > LOST:
                break
        return shares

    def _expect(self, clk: ClkSpec, setting: Setting) -> None:
        """Have the attacker's expectations ready: of plain CLKs, so the same at every t."""
        if self._same == (same := replace(setting, diffusion=0)):
            return
        study, plain = self.study, undiffused(clk)
        self._agreement = expected(study, plain, self._watched, keys=2, depth=0)
        self._chance = expected(study, plain, self._strangers, keys=2, depth=0)
        self._attackers = {
            n: ListAttacker(
                study,
                plain,
                self._crowd.rows(np.arange(n)),
                known=int(n * KNOWN_SHARE),
                targets=self._targets,
                seed=self.seed,
            )
            for n in self._sizes
        }
        self._same = same

    def _clk_f1(self, study: StudyConfig, clk: ClkSpec) -> float:
        key = _fixed_key(self.seed)
        left, right = (
            encoded(study, clk, side, key) for side in (self.sides.left, self.sides.right)
        )
        return clk_f1(left, right, self.sides, seed=self.seed)

    def _linked(self, study: StudyConfig, clk: ClkSpec) -> tuple[Point, float, float]:
        """Return what the program expects of its links, and their precision and recall."""
        fields = common_fields(self.study, next(c for c in self.study.clk if c.id == clk.id))
        held = {*fields, *(parse_field(one.field)[0] for one in clk.fields)}
        rules = [r for r in study.match_key if {parse_field(f)[0] for f in r.fields} <= held]
        parties = [
            party.model_copy(update={"fields": tuple(sorted(held))})
            for party in holders(study, clk)
        ]
        study = study.model_copy(update={"party": tuple(parties), "match_key": tuple(rules)})
        key, made = _fixed_key(self.seed), []
        for number, (party, side) in enumerate(
            zip(parties, (self.sides.left, self.sides.right), strict=True)
        ):
            draw = np.random.default_rng([self.seed, number])
            names = draw.integers(0, 256, (len(side), 16), dtype=np.uint8)
            secret = ContributorSecret(draw.bytes(32))
            one = encode_records(
                side.columns, names, study=study, party=party, key=key, secret=secret
            )
            made.append(Dataset(party.id, one.records, one.collisions))
        result = link(made, seed=self.seed)
        left, right = (result.entities.of[party.id] for party in parties)
        _, i, j = np.intersect1d(left, right, return_indices=True)
        correct = int((self.sides.left.person[i] == self.sides.right.person[j]).sum())
        chosen = result.weights.comparisons[0].estimate.chosen
        return chosen, correct / max(1, len(i)), correct / max(1, self.sides.true_pairs)


def clk_f1(left: FixedColumn, right: FixedColumn, sides: Sides, *, seed: int) -> float:
    """Return the best F1 over all thresholds of z, pairs taken best first and one to one."""
    rows, columns = _usable(left), _usable(right)
    one, other = words_of(left)[rows], words_of(right)[columns]
    bits = one.shape[1] * 64
    calibration = calibrate(one, other, seed=seed, label="sweep")
    a, b = popcounts(one), popcounts(other)
    found = pairs_reaching(one, other, bound_for(a, b, bits, calibration, LEAST_Z))
    z = zscores(found.ones, a[found.left], b[found.right], bits, calibration)
    order = np.argsort(-z, kind="stable")
    i, j = found.left[order].astype(np.int64), found.right[order].astype(np.int64)
    taken = _one_to_one(i, j, len(rows), len(columns))
    correct = sides.left.person[rows[i[taken]]] == sides.right.person[columns[j[taken]]]
    f1 = 2 * np.cumsum(correct) / (np.arange(1, len(correct) + 1) + sides.true_pairs)
    return float(f1.max(initial=0.0))


def _usable(column: FixedColumn) -> npt.NDArray[np.int64]:
    share = popcounts(words_of(column)) / (column.values.shape[1] * 8)
    low, high = POPCOUNT_BAND
    return np.flatnonzero(column.present & (share >= low) & (share <= high))


def _fixed_key(seed: int) -> StudyKey:
    """Return the key of a seed: settings are compared under one key. Simulated people only."""
    return StudyKey(np.random.default_rng([seed, 78]).bytes(32))


@numba.njit(cache=True, nogil=True)
def _one_to_one(left, right, rows, columns):  # type: ignore[no-untyped-def]
    """Return bool[P]: which pairs, best first, are taken while both records are free."""
    free_row, free_column = np.ones(rows, np.bool_), np.ones(columns, np.bool_)
    taken = np.zeros(len(left), np.bool_)
    for k in range(len(left)):
        if free_row[left[k]] and free_column[right[k]]:
            free_row[left[k]] = free_column[right[k]] = False
            taken[k] = True
    return taken
