"""
The certificate of the release gate: what was measured of a study's own encodings, and whether the
study may run on it.

    certificate = GateCertificate(study_id=..., figures=(...), ...)     # linkage.evaluation.gate
    certificate.reasons(study)     # why it does not pass; empty: it passes

It holds figures and no verdict: custodian, broker and every site compute the verdict themselves,
from the figures and the study file in hand. What it cannot show is that the figures were measured
as it says; for that the custodian signs it, within the signed study. Limits: docs/threat-model.md;
why they are as they are: docs/adr/0015.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from linkage.schema import schema_hash
from linkage.study import StudyConfig

MOST_CORRELATION = 0.15
"""Of non-match similarities between encodings of the same people under two keys; inclusive."""

MOST_REIDENTIFIED = 0.01
"""Share of the people whom the attacker did not know already; inclusive."""

MOST_UNIQUE = 0.001
"""Share of records that the equality structure of match keys makes unique; inclusive."""

LEAST_DRAWS = 5
"""Key draws of which the worst counts: one draw's correlation is off by up to a third."""

KNOWN_SHARE = 0.05
"""Share of the people whom the attacker knows, with their records."""

PLAIN_AT_LEAST = 0.95
"""Share that the attack must find on plain CLKs: an attack that does not work proves nothing."""

LEAST_PEOPLE = 2_000
"""People of a measurement; with fewer, an attack may fail because the crowd is small."""

MOST_STRUCTURE = 1_000_000
"""People up to whom the structure of match keys is measured at the declared size itself."""

Share = Annotated[float, Field(ge=0, le=1)]
People = Annotated[int, Field(ge=0, le=2**40)]
_Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
_Words = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,200}$")]
_RERUN = "run `linkage attack STUDY.toml --out gate` again"
_DEEPER = "raise diffusion (`linkage attack STUDY.toml --choose` finds it), or drop fields"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GateFigures(_Frozen):
    """
    What was measured of one piece of evidence.

    evidence: "clk:<id>", or "party:<id>" for all CLKs of that party's records together.
    diffusion: t of the CLK, None for several. correlation: under two keys, the worst of the draws;
    attacker_correlation: against what the attacker expects who uses no diffusion of his own.
    seeded: share re-identified of those unknown, at the people measured, worst of the draws, or by
    who knows nobody if that is more; predicted_seeded: by who knows some, at the declared size.
    holds_up_to: people, from those measured on, up to whom both hold.
    """

    evidence: Annotated[
        str, StringConstraints(pattern="^(clk|party):[a-z][a-z0-9-]{0,62}[a-z0-9]$")
    ]
    diffusion: Annotated[int, Field(ge=0, le=64)] | None = None
    correlation: Annotated[float, Field(ge=-1, le=1)]
    attacker_correlation: Annotated[float, Field(ge=-1, le=1)]
    seeded: Share
    predicted_seeded: Share
    holds_up_to: People


class GateCertificate(_Frozen):
    """
    All figures of a study. study_shape: of `study_shape`; people: in words, who was measured; n:
    how many; records: the declared size that the figures are for; plain_reidentified: share of
    plain_n people found from plain CLKs; unique_by_structure: of structure_people in each dataset;
    combined_reidentified: by CLKs and match keys together. date: YYYY-MM-DD.
    """

    version: Literal["1"] = "1"
    study_id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}[a-z0-9]$")]
    epoch: int = Field(ge=1)
    schema_hash: _Hash
    study_shape: _Hash
    software: _Words
    people: _Words
    n: People
    draws: int = Field(ge=0, le=10_000)
    known_share: Share
    records: People
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    plain_reidentified: Share
    plain_n: People
    figures: tuple[GateFigures, ...] = Field(max_length=64)
    unique_by_structure: Share
    structure_people: People
    combined_reidentified: Share

    def passed(self, study: StudyConfig, *, schema: str | None = None) -> bool:
        """Whether `study` may run on this certificate."""
        return not self.reasons(study, schema=schema)

    def reasons(self, study: StudyConfig, *, schema: str | None = None) -> list[str]:
        """
        Return why `study` may not run on this certificate: figure, limit, remedy; or nothing.

        schema: the schema hash that was signed with the study; default: what this software gives
        it. A site compares the two before it encodes (`require_same_encodings`).
        """
        schema = schema or schema_hash(study)
        return [*self._foreign(study, schema), *self._small(study), *self._leaks(study)]

    def _foreign(self, study: StudyConfig, schema: str) -> Iterator[str]:
        """It must be about this very study."""
        header = study.study
        if self.study_id != header.id:
            yield f"it is for study {self.study_id!r}, this is {header.id!r}: {_RERUN}"
        if self.epoch != header.epoch:
            # Of a later epoch the broker holds more encodings of the same people.
            yield f"it is for epoch {self.epoch}, this is epoch {header.epoch}: {_RERUN}"
        if self.schema_hash != schema:
            yield (
                f"it is for encodings {self.schema_hash[:16]}, the study's are {schema[:16]}"
                f" (it is older than the schema, or of another software version): {_RERUN}"
            )
        if self.study_shape != study_shape(study):
            yield f"parties or their fields changed after it was measured: {_RERUN}"

    def _small(self, study: StudyConfig) -> Iterator[str]:
        """It must have measured enough."""
        declared = declared_size(study)
        if declared is None:
            yield "the study declares no size: write records = N into every [[party]] of it"
        elif self.records < declared:
            yield f"it is for {self.records:,} records, the study declares {declared:,}: {_RERUN}"
        largest = min(max(party.records or 0 for party in study.party), MOST_STRUCTURE)
        for what, found, least, option in (
            ("people measured", self.n, LEAST_PEOPLE, " without --n"),
            ("people of the attack on plain CLKs", self.plain_n, LEAST_PEOPLE, " without --n"),
            ("people of the match keys' structure", self.structure_people, largest, ""),
            ("key draws", self.draws, LEAST_DRAWS, " without --draws"),
        ):
            if found < least:
                yield f"{what}: {found:,}, needed {least:,} or more: {_RERUN}{option}"
        if self.known_share < KNOWN_SHARE:
            yield (
                f"the attacker knew {self.known_share:.2%} of the people, needed"
                f" {KNOWN_SHARE:.0%}: {_RERUN}"
            )
        if self.plain_reidentified < PLAIN_AT_LEAST:
            yield (
                f"the attack found {self.plain_reidentified:.2%} from plain CLKs, needed"
                f" {PLAIN_AT_LEAST:.0%}; an attack that fails there proves nothing:"
                " measure other people"
            )
        there = {one.evidence for one in self.figures}
        for evidence in _evidence(study):
            if evidence not in there:
                yield f"{evidence}: not measured: {_RERUN}"

    def _leaks(self, study: StudyConfig) -> Iterator[str]:
        """What it measured must be within the limits; what is exactly at a limit passes."""
        declared = declared_size(study) or 0
        if study.study.profile != "hardened":
            yield "plain CLKs fall to graph matching, whatever was measured: use 'hardened'"
        for one in self.figures:
            if abs(one.correlation) > MOST_CORRELATION:
                yield (
                    f"{one.evidence}: correlation under two keys {one.correlation:.3f}, at most"
                    f" {MOST_CORRELATION}: {_DEEPER}"
                )
            found = [(f"at {self.n:,} people", one.seeded)]
            if self.records:  # none: it fails for that, and nothing was foretold
                found.append((f"predicted at {self.records:,} records", one.predicted_seeded))
            for what, share in found:
                if share > MOST_REIDENTIFIED:
                    yield (
                        f"{one.evidence}: {share:.2%} re-identified {what}, {self.known_share:.0%}"
                        f" of the people known; at most {MOST_REIDENTIFIED:.0%}: {_DEEPER}"
                    )
            if one.holds_up_to < declared:
                yield (
                    f"{one.evidence}: holds up to {one.holds_up_to:,} people, the study declares"
                    f" {declared:,}: declare fewer records, or {_DEEPER}"
                )
        if self.unique_by_structure > MOST_UNIQUE:
            yield (
                f"match keys: {self.unique_by_structure:.3%} of records unique by structure, at"
                f" most {MOST_UNIQUE:.1%}: drop rules that collide much, or fill_nulls = true"
            )
        if self.combined_reidentified > MOST_REIDENTIFIED:
            yield (
                f"CLKs and match keys together: {self.combined_reidentified:.2%} re-identified, at"
                f" most {MOST_REIDENTIFIED:.0%}: drop rules that collide much, or raise diffusion"
            )


def declared_size(study: StudyConfig) -> int | None:
    """
    Return the most records of one kind that the broker may hold: over the parties that compute a
    CLK, the sum of their `records`, for the CLK with the largest sum; of all parties where none
    computes a CLK. None where a party that encodes anything declares no size.
    """
    if any(p.records is None and (study.clks_of(p) or study.rules_of(p)) for p in study.party):
        return None
    sums = [
        sum(p.records or 0 for p in study.party if clk in study.clks_of(p)) for clk in study.clk
    ]
    return max(sums) or sum(p.records or 0 for p in study.party)


def study_shape(study: StudyConfig) -> str:
    """
    Return the hex SHA-256 over what decides on leakage and is not in the schema hash: which party
    holds which fields, and so computes what, and which contributors null repeated keys each by
    itself. Sizes are not in it: they are compared as numbers.
    """
    shape: Any = {
        one.id: [sorted(one.fields), sorted(one.contributors)]
        if one.contributors
        else sorted(one.fields)
        for one in study.party
    }
    return hashlib.sha256(rfc8785.dumps(shape)).hexdigest()


def _evidence(study: StudyConfig) -> Iterator[str]:
    """Yield what must be measured: every CLK, and all CLKs of a party that computes several."""
    yield from (f"clk:{clk.id}" for clk in study.clk)
    yield from (f"party:{one.id}" for one in study.party if len(study.clks_of(one)) > 1)
