"""
The study file: one linkage project, its parties, its encodings and its rules.

    study = load_study(Path("study.toml"))

Strict: an unknown key, a weak parameter or a rule on an unknown field is refused with file,
line and remedy. Thresholds are not in the file: the program finds them (linkage.matching).
Sources of the minimums: docs/threat-model.md and Armknecht, Heng and Schnell, PoPETs 2023.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from linkage import strict_toml
from linkage.errors import StudyRefused
from linkage.match_key_presets import PRESETS, preset_of, with_presets
from linkage.strict_toml import Fault, Strict

NAME_TRANSFORMS = frozenset({"initial", "sound", "formal"})
TRANSFORMS: Mapping[str, frozenset[str]] = {
    "first_name": NAME_TRANSFORMS,
    "middle_name": NAME_TRANSFORMS,
    "last_name": frozenset({"initial", "sound", "first_surname", "last_surname"}),
    "date_of_birth": frozenset({"year", "month", "day", "year_month", "month_day"}),
    "sex": frozenset(),
    "ssn": frozenset({"first5", "last4"}),
    "zip": frozenset(),
    "phone": frozenset({"last7"}),
    "email": frozenset(),
    "street": frozenset({"house_number", "street_name"}),
}
"""What a rule may make of a field, besides its first N characters (`field:N`)."""

FIELDS = tuple(TRANSFORMS)
MINIMUM_CELL = 11
MOST_UPLOADERS = 60
"""Datasets of one run; linkage.matching.solve counts them in the bits of one number."""

UNGATED_DIFFUSION = 10
"""
Diffusion depth that passed on the field sets measured so far (docs/adr/0007); neither a proof for
others nor for more CLKs of one party at once. Less needs the release gate.
"""

UNGATED_LENGTH = 2048
UNGATED_CLKS = 2
"""Longer CLKs, or more of them from one party, leaked too much at that depth or are unmeasured."""

_IDENTIFIER = re.compile(r"[a-z][a-z0-9-]{0,62}[a-z0-9]")


def identifier(text: str) -> str:
    """Return `text` if it may name a study, a party, a CLK or a rule. Raises Fault."""
    if not _IDENTIFIER.fullmatch(text):
        raise Fault(
            "is not a valid name", "2 to 64 small letters, digits and hyphens, a letter first"
        )
    return text


def _field_ref(text: str) -> str:
    parse_field(text)
    return text


def _party_id(text: str) -> str:
    if text in {"broker", "custodian"}:
        raise Fault(f"no party may be named {text!r}", "the name is taken by that role")
    return text


Identifier = Annotated[str, AfterValidator(identifier)]
PartyId = Annotated[Identifier, AfterValidator(_party_id)]
FieldRef = Annotated[str, AfterValidator(_field_ref)]


def parse_field(text: str) -> tuple[str, str]:
    """
    Split `field` or `field:transform` and check both; the transform of a bare field is "".

    Raises Fault for an unknown field or a transform that the field does not have.
    """
    field, colon, transform = text.partition(":")
    if field not in TRANSFORMS:
        raise Fault(f"unknown field {field!r}", f"known fields: {', '.join(FIELDS)}")
    prefix = transform.isascii() and transform.isdigit() and 1 <= int(transform) <= 20
    if colon and not prefix and transform not in TRANSFORMS[field]:
        known = ", ".join([*sorted(TRANSFORMS[field]), "1 to 20 (first characters)"])
        raise Fault(f"{field!r} has no transform {transform!r}", f"it has: {known}")
    return field, transform


class Header(Strict):
    """The table [study]."""

    id: Identifier
    title: str = Field(min_length=1, max_length=200)
    purpose: str = Field(min_length=1, max_length=2000)
    profile: Literal["hardened", "clkhash"] = "hardened"
    epoch: int = Field(default=1, ge=1, le=10_000)
    expires: dt.date | None = None
    minimum_cell: int = Field(default=MINIMUM_CELL, le=1000)
    image_retrieval: Literal["cover", "mirror", "disclosed"] = "cover"
    release_to: tuple[Identifier, ...] = ()
    accept_graph_matching_risk: bool = False
    match_key_presets: tuple[str, ...] | None = None

    @field_validator("match_key_presets")
    @classmethod
    def _presets(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for i, one in enumerate(value or ()):
            if one not in PRESETS:
                raise Fault(f"there is no preset {one!r}", f"presets: {', '.join(PRESETS)}")
            if one in (value or ())[:i]:
                raise Fault(f"the preset {one!r} is named twice", "name it once")
        return value

    @field_validator("minimum_cell")
    @classmethod
    def _cell(cls, value: int) -> int:
        if value < MINIMUM_CELL:
            raise Fault(
                f"a minimum cell below {MINIMUM_CELL} is too weak",
                "use 11 (CMS), 20 (N3C) or 21 (All of Us)",
            )
        return value


class Party(Strict):
    """
    One [[party]]: a commons in the study.

    kind: "imaging" holds image rows, "enclave" holds OMOP rows and receives cohorts,
    "records" only links. fields: the identifier fields that the party holds.
    contributors: who tokenizes for a commons that holds no identifiers itself; empty: it does.
    """

    id: PartyId
    title: str = ""
    kind: Literal["imaging", "enclave", "records"] = "records"
    fields: tuple[str, ...] = Field(min_length=2)
    contributors: tuple[PartyId, ...] = ()

    @field_validator("fields")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for field in value:
            if field not in TRANSFORMS:
                raise Fault(f"unknown field {field!r}", f"known fields: {', '.join(FIELDS)}")
        return value


class ClkField(Strict):
    """One field of a CLK: its tokens are n-grams, and each value sets about `bits` positions."""

    field: FieldRef
    bits: int = Field(default=100, ge=20, le=400)
    ngram: int = Field(default=2, ge=1, le=4)


class ClkSpec(Strict):
    """
    One [[clk]]: a Bloom filter over a named field set.

    length: bits, a power of two. diffusion: t, the input bits XORed into each output bit;
    0 only in the profile clkhash. min_fields: a record with fewer fields present has no such CLK.
    """

    id: Identifier
    fields: tuple[ClkField, ...]
    length: int = 2048
    diffusion: int | None = Field(default=None, ge=0, le=64)
    min_fields: int = Field(default=3, ge=2)

    @field_validator("fields")
    @classmethod
    def _enough(cls, value: tuple[ClkField, ...]) -> tuple[ClkField, ...]:
        if len(value) < 4:
            raise Fault("a CLK needs at least 4 fields", "fewer are easily attacked")
        return value

    @field_validator("length")
    @classmethod
    def _length(cls, value: int) -> int:
        if value not in (512, 1024, 2048, 4096):
            raise Fault(f"{value} bits are not possible", "use 512, 1024, 2048 or 4096")
        return value


class MatchKeyRule(Strict):
    """One [[match_key]]: an exact keyed token over a combination of fields."""

    id: Identifier
    fields: tuple[FieldRef, ...] = Field(min_length=2, max_length=8)


class StudyConfig(Strict):
    """
    The whole study file, checked as a whole. `party`, `clk`, `match_key` keep file order.

    match_key: the file's own rules, then those of its presets (linkage.match_key_presets).
    """

    study: Header
    party: tuple[Party, ...] = Field(min_length=2, max_length=20)
    clk: tuple[ClkSpec, ...] = Field(min_length=1, max_length=8)
    match_key: tuple[MatchKeyRule, ...] = Field(default=(), max_length=40)

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
        for i, clk in enumerate(self.clk):
            self._strong_enough(i, clk)
        for i, party in enumerate(self.party):
            sent = len(self.clks_of(party))
            if self.study.profile == "hardened" and sent > UNGATED_CLKS:
                raise Fault(
                    f"would send {sent} CLKs a record, which together leak more",
                    f"at most {UNGATED_CLKS} a party until the release gate can measure them all",
                    *("party", i, "fields"),
                )
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
        if hardened and clk.length > UNGATED_LENGTH:
            raise Fault(
                f"{clk.length} bits need more diffusion than anybody measured",
                f"use {UNGATED_LENGTH} bits until the release gate can say what is enough",
                *("clk", i, "length"),
            )
        if hardened and (t := self.diffusion_of(clk)) < UNGATED_DIFFUSION:
            raise Fault(
                f"a diffusion of {t} is too weak without a release-gate certificate",
                f"leave it out or set {UNGATED_DIFFUSION} or more",
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

    def diffusion_of(self, clk: ClkSpec) -> int:
        """Return t of `clk`: as the file says, else 10 (hardened) or 0 (clkhash)."""
        if clk.diffusion is not None:
            return clk.diffusion
        return UNGATED_DIFFUSION if self.study.profile == "hardened" else 0

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


def expected_density(clk: ClkSpec) -> float:
    """Return the share of bits that a full record sets: 1 - (1 - 1/l)^(sum of bits)."""
    return float(1 - (1 - 1 / clk.length) ** sum(field.bits for field in clk.fields))


def load_study(path: Path) -> StudyConfig:
    """Read a study file. Raises StudyRefused with file, line, key and remedy."""
    return strict_toml.load(path, StudyConfig, StudyRefused)


def parse_study(text: str, *, file: str = "study.toml") -> StudyConfig:
    """Read the text of a study file; `file` is only named in errors."""
    return strict_toml.parse(text, StudyConfig, StudyRefused, file=file)
