"""
Answer a question: how many persons have fitting images and meet the clinical criteria.

Made in the enclave, on persons, from the question IDs that the imaging party sealed to it. Only
what `Counts.to_json` holds may leave. Every number in it, those of the steps on the way among
them, is what sites.cohort.shown_sets lets be read of the very persons counted, given all that the
study's ledger (sites.cohort.ledger) says was shown before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import rfc8785

from linkage.cohort.spec_clinical import ClinicalCriteria
from sites.cohort.clinical import ImagingDays, evaluate
from sites.cohort.config_counts import Variable
from sites.cohort.disclosure import Shown
from sites.cohort.ledger import Book, Depths, Entry, Ledger
from sites.cohort.omop import OmopSource
from sites.cohort.one_way import one_way
from sites.cohort.shown_sets import SMALL, Ints, ShownSets

_ENCLAVE, _IMAGES = "persons of the enclave", "who have images that fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAsked:
    """
    Which question is answered, of which release, and when. run: whose links it is about. at: Unix
    seconds, from the caller: this package has no clock.
    """

    question: str
    run: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """
    The answer to one question, fit to be read. Counts are of persons, as they may be shown.

    overlap: persons of the enclave who have images that fit. distributions: one-way tables by
    variable, None where even the table would tell too much or is not defined. attrition:
    (criterion, persons left). exact: the true number, for the enclave only; it is not in
    to_json().
    """

    minimum_cell: int
    rounding: int
    noise: int
    zero: str
    persons: Shown
    overlap: Shown
    distributions: dict[str, dict[str, Shown] | None]
    attrition: tuple[tuple[str, Shown], ...]
    notes: tuple[str, ...]
    exact: int = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return what may leave the enclave."""
        return {
            "minimum_cell": self.minimum_cell,
            "rounding": self.rounding,
            "noise": self.noise,
            "zero": self.zero,
            "persons": self.persons,
            "overlap": self.overlap,
            "distributions": self.distributions,
            "attrition": [{"step": label, "persons": shown} for label, shown in self.attrition],
            "notes": list(self.notes),
        }


def answer_counts(
    qualifying: Collection[str],
    question_ids: Mapping[int, str],
    criteria: ClinicalCriteria,
    source: OmopSource,
    *,
    ledger: Ledger,
    asked: CountAsked,
    variables: Sequence[Variable] = ("sex", "age"),
    imaging_days: ImagingDays | None = None,
    names: Mapping[int, str] | None = None,
) -> Counts:
    """
    Count the persons who fit both halves of a specification, and enter the answer in the ledger.

    qualifying: question IDs that fit at the imaging party. question_ids: this enclave's question
    ID by OMOP person_id; two OMOP persons with one question ID are one person. imaging_days: by
    question ID, where criteria.needs_imaging_dates. names: by person_id, what a person is called
    in every release and reload (default: its person_id).

    A question that was answered keeps its answer. So does the same question asked again, of this
    or a later release, until the study's number of records changed. Raises Conflict while another
    process counts, NotAllowed where the epoch's questions are used up, SourceRefused for an
    unusable source.
    """
    with ledger.held() as book:
        if before := book.answered(asked.question):
            return _of_entry(before)
        found = _evaluated(
            book, qualifying, question_ids, criteria, source, imaging_days, names or {}
        )
        same = _hash(criteria, variables, ledger)
        if earlier := book.unchanged(same, found.depths):
            book.keep(_entry(ledger, asked, same, earlier.answer, earlier.exact, earlier.question))
            return _of_entry(earlier)
        book.require_room()
        sets = book.shown_sets()
        told = _told(found, sets, variables, ledger)
        entry = _entry(ledger, asked, same, told, len(found.steps[-1]))
        book.keep(entry, sets.added, found.depths)
        return _of_entry(entry)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Found:
    """
    Who is left after each step, as person numbers: each step within the one before. depths: by
    person number. last: the persons of the last step, parallel to steps[-1]: sex, age, race, ...
    """

    labels: tuple[str, ...]
    steps: list[Ints]
    depths: Depths
    last: Any
    ages: bool
    notes: tuple[str, ...]


def _evaluated(
    book: Book,
    qualifying: Collection[str],
    question_ids: Mapping[int, str],
    criteria: ClinicalCriteria,
    source: OmopSource,
    imaging_days: ImagingDays | None,
    names: Mapping[int, str],
) -> _Found:
    fits = set(qualifying)
    among = {person: unit for person, unit in question_ids.items() if unit in fits}
    result = evaluate(criteria, source, among=among, imaging_days=imaging_days)
    # Two persons with one question ID are known by the smaller person_id, whoever of them fits.
    persons = np.array(sorted(question_ids), dtype=np.int64)
    ids = pa.array([question_ids[person] for person in persons.tolist()], pa.string())
    encoded = ids.dictionary_encode()
    _, first = np.unique(encoded.indices.to_numpy(), return_index=True)
    numbers = book.numbers([names.get(one, str(one)) for one in persons[first].tolist()])
    units = encoded.dictionary
    pictured = numbers[pc.is_in(units, pa.array(list(fits), pa.string())).to_numpy(False)]
    everyone = result.everyone
    at = pc.index_in(everyone["unit"].combine_chunks(), value_set=units)
    who = numbers[at.to_numpy(zero_copy_only=False)]
    step = everyone["step"].fill_null(len(result.attrition.steps)).to_numpy()
    steps = [numbers, pictured]
    steps += [who[step > n] for n in range(len(result.attrition.steps))]
    depths = np.zeros(max(numbers, default=-1) + 1, np.uint8)
    for depth, members in enumerate(steps, start=1):
        depths[members] = depth
    return _Found(
        labels=(_ENCLAVE, _IMAGES, *(one.label for one in result.attrition.steps)),
        steps=steps,
        depths=depths,
        last=result.persons,
        ages=criteria.age_at is not None,
        notes=result.attrition.notes,
    )


def _told(
    found: _Found, sets: ShownSets, variables: Sequence[Variable], ledger: Ledger
) -> dict[str, Any]:
    """Decide what may be read: first the persons who fit, then steps upwards, then tables."""
    shown = [sets.show(members) for members in reversed(found.steps)][::-1]
    persons = shown[-1]
    tables: dict[str, dict[str, Shown] | None] = dict.fromkeys(variables)
    # A table of few persons would use up what may be told of them, and hardly show anything.
    large = isinstance(persons, int) and persons >= SMALL * ledger.minimum
    large = large and sets.may_cut(found.steps[-1])
    for variable in variables if large else ():
        if variable != "age" or found.ages:
            tables[variable] = one_way(
                variable, found.last[variable].combine_chunks(), found.steps[-1], sets.show
            )
    return {
        "minimum_cell": ledger.minimum,
        "rounding": ledger.rules.rounding,
        "noise": ledger.rules.noise,
        "zero": ledger.rules.zero,
        "persons": persons,
        "overlap": shown[1],
        "distributions": tables,
        "attrition": list(zip(found.labels, falling(shown), strict=True)),
        "notes": list(found.notes),
    }


def falling(shown: Sequence[Shown]) -> list[Shown]:
    """
    Return the counts of steps with none below the one after it: each moved by its own blur, a step
    that hardly removes anybody could seem to add some. Made of what is shown, it tells no more.
    """
    found = list(shown)
    for at in reversed(range(len(found) - 1)):
        before, after = found[at], found[at + 1]
        if isinstance(after, int) and (not isinstance(before, int) or before < after):
            found[at] = after
    return found


def _hash(criteria: ClinicalCriteria, variables: Sequence[Variable], ledger: Ledger) -> str:
    """Return what makes it the same question, the imaging half apart: that shows in who is left."""
    asked: Any = {
        "clinical": criteria.model_dump(mode="json"),
        "variables": sorted(variables),
        "rules": ledger.rules.model_dump(mode="json"),
        "minimum": ledger.minimum,
    }
    return hashlib.sha256(rfc8785.dumps(asked)).hexdigest()


def _entry(
    ledger: Ledger,
    asked: CountAsked,
    same: str,
    answer: Mapping[str, Any],
    exact: int,
    same_as: str = "",
) -> Entry:
    return Entry(
        question=asked.question,
        run=asked.run,
        epoch=ledger.epoch,
        at=asked.at,
        asked=same,
        answer=json.loads(json.dumps(answer)),
        exact=exact,
        same_as=same_as,
    )


def _of_entry(entry: Entry) -> Counts:
    told = dict(entry.answer)
    told["attrition"] = tuple((label, shown) for label, shown in told["attrition"])
    return Counts(**{**told, "notes": tuple(told["notes"])}, exact=entry.exact)
