"""
The study file: one linkage project, its parties, its encodings and its rules.

    study = load_study(Path("study.toml"))

Strict: an unknown key, a weak parameter or a rule on an unknown field is refused with file,
line and remedy. Thresholds are not in the file: the program finds them (linkage.matching).
Sources of the minimums: docs/threat-model.md and Armknecht, Heng and Schnell, PoPETs 2023.
Whether the encodings are safe on the study's own fields only the release gate can say
(linkage.certificate); what is refused here would never pass it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from linkage import strict_toml
from linkage.errors import StudyRefused
from linkage.match_key_presets import preset_of, with_presets
from linkage.participation import (
    Agreed,
    Participation,
    Purpose,
    RetentionRules,
    require_consistent,
)
from linkage.strata import MOST_VARIABLES, Stratum, require_fitting
from linkage.strict_toml import Fault, Strict
from linkage.study_parts import (
    FIELDS,
    MINIMUM_CELL,
    NAME_TRANSFORMS,
    TRANSFORMS,
    ClkField,
    ClkSpec,
    CountRules,
    FieldRef,
    Header,
    Identifier,
    MatchKeyRule,
    Party,
    PartyId,
    Review,
    SecondLook,
    expected_density,
    identifier,
    parse_field,
)

__all__ = [
    "DEFAULT_DIFFUSION",
    "FIELDS",
    "MINIMUM_CELL",
    "NAME_TRANSFORMS",
    "TRANSFORMS",
    "ClkField",
    "ClkSpec",
    "CountRules",
    "FieldRef",
    "Header",
    "Identifier",
    "MatchKeyRule",
    "Party",
    "PartyId",
    "Review",
    "SecondLook",
    "StudyConfig",
    "expected_density",
    "identifier",
    "load_study",
    "parse_field",
    "parse_study",
]

MOST_UPLOADERS = 60
"""Datasets of one run; linkage.matching.solve counts them in the bits of one number."""

DEFAULT_DIFFUSION = 18
"""
Diffusion depth t of a hardened CLK whose file names none: the smallest even one that passes the
release gate on every set of fields measured, two CLKs a party, up to 100,000 people
(docs/parameters.md). `linkage attack --choose` often finds less for a study's own fields and size.
"""

LEAST_DIFFUSION = 5
"""
Below it graph matching finds most people of every set published (t = 4: 87 %; Armknecht, Heng and
Schnell, PoPETs 2023), so no exception may allow it. On ordinary fields 5 is too little, too.
"""


class StudyConfig(Strict):
    """
    The whole study file, checked as a whole. `party`, `clk`, `match_key` keep file order.

    match_key: the file's own rules, then those of its presets (linkage.match_key_presets). strata:
    groups of people that sites may mark their records with (linkage.strata); none by default.
    """

    remedies: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("private", "source", "broker"),
        "this is a site file; give the study file, which the custodian signs",
    )

    study: Header
    party: tuple[Party, ...] = Field(min_length=2, max_length=20)
    clk: tuple[ClkSpec, ...] = Field(min_length=1, max_length=8)
    match_key: tuple[MatchKeyRule, ...] = Field(default=(), max_length=40)
    second_look: SecondLook | None = None
    review: Review | None = None
    counts: CountRules = CountRules()
    purpose: tuple[Purpose, ...] = Field(default=(), max_length=50)
    participation: tuple[Participation, ...] = Field(default=(), max_length=1000)
    retention: RetentionRules | None = None
    strata: tuple[Stratum, ...] = Field(default=(), max_length=MOST_VARIABLES)

    @model_validator(mode="before")
    @classmethod
    def _expanded(cls, raw: Any) -> Any:
        return with_presets(raw)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for noun, ids in (
            ("party", [p.id for p in self.party]),
            ("clk", [c.id for c in self.clk]),
        ):
            for i, one in enumerate(ids):
                if one in ids[:i]:
                    raise Fault(f"two [[{noun}]] are named {one!r}", "rename one", noun, i, "id")
        self._named_once()
        self._rules_fit()
        for kind in ("enclave", "imaging"):
            if len(same := [i for i, p in enumerate(self.party) if p.kind == kind]) > 1:
                said = f"two parties are of kind {kind!r}"
                raise Fault(said, "one study has one of each", "party", same[1], "kind")
        for one in self.study.release_to:
            if one not in {p.id for p in self.party}:
                hint = f"use party ids: {', '.join(p.id for p in self.party)}"
                raise Fault(f"{one!r} is no party", hint, "study", "release_to")
        if self.study.profile == "clkhash" and not self.study.accept_graph_matching_risk:
            raise Fault(
                "plain CLKs fall to graph matching without the key",
                "use 'hardened', or say accept_graph_matching_risk = true",
                *("study", "profile"),
            )
        if self.reviews and not self.looks:
            raise Fault(
                "reviewers see what a second look compares, and the study allows none",
                "add a table [second_look], or leave [review] out",
                "review",
            )
        if self.counts.rounding > self.study.minimum_cell:
            said = f"rounds more coarsely than the minimum cell, {self.study.minimum_cell}"
            raise Fault(said, "round to at most the minimum cell", "counts", "rounding")
        for i, clk in enumerate(self.clk):
            self._strong_enough(i, clk)
        require_consistent(self.party, self.purpose, self.participation)
        require_fitting(self.strata)
        if self.purpose and "use" in self.study.model_fields_set:
            said = "says nothing in a study that declares purposes"
            raise Fault(said, "write use into each [[purpose]]", "study", "use")
        return self

    def _named_once(self) -> None:
        """Every party and contributor signs under its own name, so no two may share one."""
        taken = {p.id for p in self.party}
        for i, party in enumerate(self.party):
            for one in party.contributors:
                if one in taken:
                    raise Fault(
                        f"{one!r} is a party or a contributor already",
                        "give every party and every contributor a name of its own",
                        *("party", i, "contributors"),
                    )
                taken.add(one)
        if len(self.uploaders) > MOST_UPLOADERS:
            raise Fault(
                f"the study has {len(self.uploaders)} uploaders",
                f"at most {MOST_UPLOADERS} parties without contributors, and contributors",
                *("party", len(self.party) - 1, "id"),
            )

    def _rules_fit(self) -> None:
        """Every rule has its own name, also beside the presets', and fields that somebody holds."""
        if not self.match_key:
            hint = "write a [[match_key]], or name a preset whose fields two parties hold"
            raise Fault("the study has no match-key rule", hint, "study", "match_key_presets")
        held = {field for p in self.party for field in p.fields}
        ids = [rule.id for rule in self.match_key]
        for i, rule in enumerate(self.match_key):
            if preset := preset_of(rule.id, rule.fields):
                said = f"{rule.id!r} is a rule of the preset {preset!r}, over other fields"
                raise Fault(said, "rename yours", "match_key", i, "id")
            if rule.id in ids[:i]:
                said = f"two [[match_key]] are named {rule.id!r}"
                raise Fault(said, "rename one", "match_key", i, "id")
            for ref in rule.fields:
                if parse_field(ref)[0] not in held:
                    raise Fault(
                        f"uses {ref!r}, which no party holds",
                        "add it to a party's fields or drop the rule",
                        *("match_key", i, "fields"),
                    )

    def _strong_enough(self, i: int, clk: ClkSpec) -> None:
        hardened = self.study.profile == "hardened"
        if hardened and (t := self.diffusion_of(clk)) < LEAST_DIFFUSION:
            raise Fault(
                f"a diffusion of {t} falls to graph matching whatever the fields",
                f"leave it out ({DEFAULT_DIFFUSION}); never below {LEAST_DIFFUSION}",
                *("clk", i, "diffusion"),
            )
        if not hardened and clk.diffusion:
            rule = "profile 'clkhash' has no diffusion"
            raise Fault(rule, "drop it or use 'hardened'", "clk", i, "diffusion")
        if not 0.10 <= (density := expected_density(clk)) <= 0.55:
            raise Fault(
                f"a full record would set {density:.0%} of the bits; 10 to 55 % are safe",
                "change bits or length",
                *("clk", i, "fields"),
            )

    @property
    def looks(self) -> SecondLook | None:
        """
        The limits of second looks; None where the study allows none. A file without the table
        allows none: who signed it before there were second looks agreed to none.
        """
        return self.second_look if self.second_look and self.second_look.enabled else None

    @property
    def agreed(self) -> Agreed:
        """Which party takes part in which feature for which purpose."""
        return Agreed(self.party, self.purpose, self.participation, self.study.use)

    def last_day(self, party_id: str) -> dt.date | None:
        """Return the last day, UTC, of a party's agreement or the study; None: without end."""
        days = (self.study.expires, self.party_named(party_id).expires)
        return min((day for day in days if day is not None), default=None)

    @property
    def reviews(self) -> Review | None:
        """What reviewers are shown of a run; None where the study allows no review."""
        return self.review if self.review and self.review.enabled else None

    def diffusion_of(self, clk: ClkSpec) -> int:
        """Return t of `clk`: as the file says, else the default (hardened) or 0 (clkhash)."""
        if clk.diffusion is not None:
            return clk.diffusion
        return DEFAULT_DIFFUSION if self.study.profile == "hardened" else 0

    def party_named(self, party_id: str) -> Party:
        """Return the party. Raises StudyRefused if the study has none of that name."""
        for party in self.party:
            if party.id == party_id:
                return party
        raise StudyRefused(
            file=self.study.id,
            line=0,
            key="party",
            rule=f"the study has no party {party_id!r}",
            hint=f"its parties: {', '.join(p.id for p in self.party)}",
        )

    @property
    def uploaders(self) -> tuple[str, ...]:
        """Everyone who tokenizes and uploads, in file order: contributors, else the party."""
        return tuple(one for party in self.party for one in self.uploaders_of(party))

    @property
    def actors(self) -> tuple[str, ...]:
        """Everyone whose keys the study pins, besides broker and custodian, in file order."""
        return tuple(one for party in self.party for one in (party.id, *party.contributors))

    def uploaders_of(self, party: Party) -> tuple[str, ...]:
        """Return who tokenizes for the party: its contributors, or it alone."""
        return party.contributors or (party.id,)

    def party_of_uploader(self, uploader: str) -> Party:
        """Return the party that `uploader` tokenizes for. Raises StudyRefused for anybody else."""
        for party in self.party:
            if uploader in self.uploaders_of(party):
                return party
        raise StudyRefused(
            file=self.study.id,
            line=0,
            key="party",
            rule=f"{uploader!r} tokenizes for no party of the study",
            hint=f"those who do: {', '.join(self.uploaders)}",
        )

    def party_of_kind(self, kind: str) -> Party | None:
        """Return the party of kind "imaging" or "enclave", None if the study has none."""
        return next((p for p in self.party if p.kind == kind), None)

    def clks_of(self, party: Party) -> tuple[ClkSpec, ...]:
        """Return the CLKs whose every field the party holds: only these it computes."""
        held = set(party.fields)
        return tuple(c for c in self.clk if {parse_field(f.field)[0] for f in c.fields} <= held)

    def rules_of(self, party: Party) -> tuple[MatchKeyRule, ...]:
        """Return the match-key rules whose every field the party holds."""
        held = set(party.fields)
        return tuple(r for r in self.match_key if {parse_field(f)[0] for f in r.fields} <= held)


def load_study(path: Path) -> StudyConfig:
    """Read a study file. Raises StudyRefused with file, line, key and remedy."""
    return strict_toml.load(path, StudyConfig, StudyRefused)


def parse_study(text: str, *, file: str = "study.toml") -> StudyConfig:
    """Read the text of a study file; `file` is only named in errors."""
    return strict_toml.parse(text, StudyConfig, StudyRefused, file=file)
