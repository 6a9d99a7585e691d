"""
The tables of a study file, each checked by itself; linkage.study checks them together.

    [study] Header   [[party]] Party   [[clk]] ClkSpec   [[match_key]] MatchKeyRule
    [second_look] SecondLook   [review] Review   [counts] CountRules
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from linkage.match_key_presets import PRESETS
from linkage.strict_toml import Fault, Strict
from linkage.uses import NON_COMMERCIAL, Use

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
    """
    The table [study]. release_gate_exception: why the study may run without a certificate that
    passes (linkage.certificate); signed with the file, and shown to everyone who uses it.
    fill_nulls: match keys and CLKs that a record lacks are made up (linkage.encoding.fillers);
    None: as the profile says, see `fills_nulls`. release_methods: a release to the enclave alone
    may say how its IDs were linked, where every steward consents. use: for profit or not; in a
    study with [[purpose]] tables each says it.
    """

    id: Identifier
    title: str = Field(min_length=1, max_length=200)
    purpose: str = Field(min_length=1, max_length=2000)
    use: Use = NON_COMMERCIAL
    profile: Literal["hardened", "clkhash"] = "hardened"
    epoch: int = Field(default=1, ge=1, le=10_000)
    expires: dt.date | None = None
    minimum_cell: int = Field(default=MINIMUM_CELL, le=1000)
    image_retrieval: Literal["cover", "mirror", "disclosed"] = "cover"
    release_to: tuple[Identifier, ...] = ()
    release_methods: bool = False
    accept_graph_matching_risk: bool = False
    match_key_presets: tuple[str, ...] | None = None
    release_gate_exception: str | None = None
    fill_nulls: bool | None = None

    @property
    def fills_nulls(self) -> bool:
        """Whether what a record lacks is made up: as the file says, else if hardened."""
        if self.fill_nulls is not None:
            return self.fill_nulls
        return self.profile == "hardened"

    @field_validator("match_key_presets")
    @classmethod
    def _presets(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for i, one in enumerate(value or ()):
            if one not in PRESETS:
                raise Fault(f"there is no preset {one!r}", f"presets: {', '.join(PRESETS)}")
            if one in (value or ())[:i]:
                raise Fault(f"the preset {one!r} is named twice", "name it once")
        return value

    @field_validator("release_gate_exception")
    @classmethod
    def _exception(cls, value: str | None) -> str | None:
        if value is not None and not (20 <= len(value.strip()) <= 500 and value.isprintable()):
            raise Fault(
                "a release-gate exception is a reason of 20 to 500 characters on one line",
                "say why this study may run unmeasured; every party reads it",
            )
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
    records: the most that its newest dataset versions may hold, all contributors together; what
    the release gate measures for. None: not declared, and no more than the broker takes. expires:
    the last day of the party's own agreement, UTC; None: that of the study. sequestered: the party
    takes part in questions, with counts, and in no delivery of rows.
    """

    id: PartyId
    title: str = ""
    kind: Literal["imaging", "enclave", "records"] = "records"
    fields: tuple[str, ...] = Field(min_length=2)
    contributors: tuple[PartyId, ...] = ()
    records: int | None = Field(default=None, ge=1, le=2**31)
    expires: dt.date | None = None
    sequestered: bool = False

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
        if len({parse_field(one.field)[0] for one in value}) < 4:
            raise Fault(
                "a CLK needs at least 4 different fields",
                "parts of one field count once; fewer are easily attacked",
            )
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

    @field_validator("fields")
    @classmethod
    def _combines(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len({parse_field(ref)[0] for ref in value}) < 2:
            raise Fault(
                "a match key needs at least 2 different fields",
                "a token over one field falls to counting how often each value occurs",
            )
        return value


class SecondLook(Strict):
    """
    The table [second_look]: for pairs that stay uncertain the broker asks sites for filters field
    by field, under a key for each pair. A file without the table allows none.

    most_per_record, most_per_run: questions about one record, and pairs, in one run. most_runs: of
    one epoch in which a site answers at all. Sites hold to the three whatever the broker says.
    decoys: share of the pairs asked that are no doubt at all, so that a question tells the site
    nothing. wait_hours: how long a run waits for silent sites before it goes on without them.
    fields: that may be compared; of them each pair of parties compares those that both hold.
    """

    enabled: bool = True
    fields: tuple[str, ...] = FIELDS
    most_per_record: int = Field(default=5, ge=1, le=100)
    most_per_run: int = Field(default=5_000, ge=1, le=1_000_000)
    most_runs: int = Field(default=200, ge=1, le=10_000)
    decoys: float = Field(default=0.5, ge=0.1, le=0.9)
    wait_hours: float = Field(default=24.0, gt=0, le=720)

    @field_validator("fields")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise Fault("no field may be compared", "name some, or say enabled = false")
        for i, field in enumerate(value):
            if field not in TRANSFORMS:
                raise Fault(f"unknown field {field!r}", f"known fields: {', '.join(FIELDS)}")
            if field in value[:i]:
                raise Fault(f"the field {field!r} is named twice", "name it once")
        return value


class Review(Strict):
    """
    The table [review]: people look at pairs that stay in doubt after a second look, which has to be
    allowed, as field agreements; a file without the table allows no review.

    most_pairs: in doubt, of one run. sample: accepted links that are shown besides, to check the
    estimated precision. decoys: share of all that is shown whose answer is known.
    """

    enabled: bool = True
    most_pairs: int = Field(default=200, ge=1, le=100_000)
    sample: int = Field(default=100, ge=0, le=100_000)
    decoys: float = Field(default=0.3, ge=0.1, le=0.9)


class CountRules(Strict):
    """
    The table [counts]: how the enclave shows how many persons a question finds, besides
    [study] minimum_cell. A file without the table means the defaults.

    zero: "merged", nobody reads as "too few", like few persons; "shown", as 0, which tells whoever
    describes one person exactly whether that one fits. rounding: counts are multiples of it.
    noise: a count moves by so many persons at most, or by 4 % of it where that is more, always
    alike for the same persons, before it is compared with the minimum and rounded; 0: not at all,
    and who knows all persons but one reads that one. changed: a question asked again gets its
    earlier answer until so many records changed.
    small_answers: small numbers of an epoch that a person may be in; further ones leave that
    person out; also so many different counts of fewer than ten times the minimum may share half of
    their persons; further ones read as below that. questions: that the enclave counts in one epoch.
    """

    zero: Literal["merged", "shown"] = "merged"
    rounding: int = Field(default=5, ge=1, le=100)
    noise: int = Field(default=10, ge=0, le=50)
    changed: int = Field(default=MINIMUM_CELL, ge=1, le=1_000_000)
    small_answers: int = Field(default=10, ge=1, le=1000)
    questions: int = Field(default=500, ge=1, le=100_000)

    def in_words(self, minimum: int) -> str:
        """Return what they come to with a minimum cell of `minimum`, for people who agree to it."""
        if not self.noise:
            told = f"from {minimum} persons on, and NOT MOVED: who knows all but one reads that one"
        else:
            always = minimum + 2 * self.noise
            told = f"never below {minimum} persons, from {always} on always; moved by up to"
            told += f" {self.noise} or 4 %"
        nobody = "nobody reads as too few" if self.zero == "merged" else "0 IS SHOWN"
        return (
            f"{told}, then rounded to {self.rounding}; {nobody}; a new answer once {self.changed:,}"
            f" records changed; at most {self.questions:,} questions an epoch"
        )


def expected_density(clk: ClkSpec) -> float:
    """Return the share of bits that a full record sets: 1 - (1 - 1/l)^(sum of bits)."""
    return float(1 - (1 - 1 / clk.length) ** sum(field.bits for field in clk.fields))
