"""
Who takes part in what, and for how long things are kept: tables of the study file.

    [[purpose]] Purpose   [[participation]] Participation   [retention] RetentionRules

A study that declares no purpose has one, that of its header, and every party takes part in every
feature. Once it declares one, only what a [[participation]] names is allowed: what is left out is
refused, by name, where the feature runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from pydantic import Field, field_validator

from linkage.errors import NotAllowed
from linkage.strict_toml import Fault, Strict
from linkage.study_parts import Identifier, Party
from linkage.uses import NON_COMMERCIAL, Use

Feature = Literal["linkage", "releases", "questions", "deliveries", "second-looks", "review"]
FEATURES: tuple[Feature, ...] = get_args(Feature)
LONGEST_DAYS = 36_500


class Purpose(Strict):
    """
    One [[purpose]] of the study. title: in words, for stewards. use: for profit or not; a question
    for the other use is refused.
    """

    id: Identifier
    title: str = Field(min_length=1, max_length=2000)
    use: Use = NON_COMMERCIAL


class Participation(Strict):
    """One [[participation]]: what a party takes part in for a purpose; each pair comes once."""

    party: Identifier
    purpose: Identifier
    features: tuple[Feature, ...] = Field(min_length=1)

    @field_validator("features")
    @classmethod
    def _once(cls, value: tuple[Feature, ...]) -> tuple[Feature, ...]:
        if len(set(value)) != len(value):
            raise Fault("a feature is named twice", "name each once")
        return value


class RetentionRules(Strict):
    """
    The table [retention], here and in the broker's config.toml: days until something is deleted;
    None: never by itself. Where both say something the shorter counts.

    packages_days: dataset versions, opt-out and assertion lists, after the study was closed.
    old_epochs_days: dataset versions of an epoch, after another one replaced it.
    intermediates_days: what a run left between its steps, after it ended. inbox_days: sealed
    objects in the relay, after they were placed.
    """

    packages_days: int | None = Field(default=None, ge=1, le=LONGEST_DAYS)
    old_epochs_days: int | None = Field(default=None, ge=1, le=LONGEST_DAYS)
    intermediates_days: int | None = Field(default=None, ge=1, le=LONGEST_DAYS)
    inbox_days: int | None = Field(default=None, ge=1, le=LONGEST_DAYS)

    def shorter(self, other: RetentionRules | None) -> RetentionRules:
        """Return for every clock the shorter of both."""
        if other is None:
            return self
        made = {}
        for name in RetentionRules.model_fields:
            told = [d for d in (getattr(self, name), getattr(other, name)) if d is not None]
            made[name] = min(told, default=None)
        return RetentionRules(**made)


class Agreed:
    """
    What the parties agreed to: `Agreed(study.party, study.purpose, study.participation)`.

    purposes: ids, in file order; empty where the study declares none. use: of the study's header,
    which counts where it declares none.
    """

    def __init__(
        self,
        parties: Sequence[Party],
        purposes: Sequence[Purpose],
        participation: Sequence[Participation],
        use: Use = NON_COMMERCIAL,
    ) -> None:
        self.use, self._uses = use, {purpose.id: purpose.use for purpose in purposes}
        self.parties = tuple(party.id for party in parties)
        self.purposes = tuple(purpose.id for purpose in purposes)
        self._of = {(one.party, one.purpose): one.features for one in participation}

    def features(self, party: str, purpose: str) -> tuple[Feature, ...]:
        """Return what a party takes part in for a purpose, in the order of FEATURES."""
        if not self.purposes:
            return FEATURES
        named = self._of.get((party, purpose), ())
        return tuple(one for one in FEATURES if one in named)

    def takes_part(self, party: str, feature: Feature, purpose: str) -> bool:
        """Does the party take part in the feature for this purpose?"""
        return feature in self.features(party, purpose)

    def purpose(self, asked: str) -> str:
        """
        Return the purpose that is meant: the one asked for, else the only one; "" where the study
        declares none. Raises NotAllowed for one that it does not declare, or where several could be
        meant.
        """
        if not self.purposes:
            if asked:
                raise NotAllowed(
                    "the study declares no purposes to choose from",
                    hint="leave the purpose out",
                )
            return ""
        if not asked and len(self.purposes) == 1:
            return self.purposes[0]
        if asked not in self.purposes:
            raise NotAllowed(
                f"{asked!r} is no purpose of the study" if asked else "no purpose was named",
                hint=f"name one of: {', '.join(self.purposes)}",
            )
        return asked

    def require_use(self, use: Use, purpose: str) -> None:
        """Raises NotAllowed unless the purpose, "" where the study declares none, is this use."""
        agreed = self._uses.get(purpose, self.use)
        if use != agreed:
            about = f"the purpose {purpose!r}" if purpose else "the study"
            raise NotAllowed(
                f"{about} is for {agreed} use, and the question asks for {use} use",
                hint=f'write use = "{agreed}" into [cohort], if that is what you want; other use'
                " is another purpose, which the parties agree to and the custodian signs",
            )

    def require(self, parties: Iterable[str], feature: Feature, purpose: str) -> None:
        """Raises NotAllowed, naming them, unless all these parties take part in the feature."""
        missing = [one for one in parties if not self.takes_part(one, feature, purpose)]
        if missing:
            raise NotAllowed(
                f"for the purpose {purpose!r} these take no part in {feature}:"
                f" {', '.join(sorted(set(missing)))}",
                hint="the signed study file says who takes part in what; leave them out, or agree"
                " anew and have the custodian sign the next epoch",
            )


def require_consistent(
    parties: Sequence[Party],
    purposes: Sequence[Purpose],
    participation: Sequence[Participation],
) -> None:
    """Raises Fault for a name that is unknown or comes twice, and for what could never run."""
    known = {"party": [p.id for p in parties], "purpose": [p.id for p in purposes]}
    for i, name in enumerate(known["purpose"]):
        if name in known["purpose"][:i]:
            raise Fault(f"two [[purpose]] are named {name!r}", "rename one", "purpose", i, "id")
    seen: set[tuple[str, str]] = set()
    for i, one in enumerate(participation):
        for kind, name in (("party", one.party), ("purpose", one.purpose)):
            if name not in known[kind]:
                hint = f"those of the study: {', '.join(known[kind]) or 'none is declared'}"
                raise Fault(f"{name!r} is no {kind}", hint, "participation", i, kind)
        if (one.party, one.purpose) in seen:
            said = f"{one.party!r} has two [[participation]] for {one.purpose!r}"
            raise Fault(said, "name all its features in one", "participation", i, "features")
        seen.add((one.party, one.purpose))
    agreed = Agreed(parties, purposes, participation)
    for i, name in enumerate(agreed.purposes):
        if sum(agreed.takes_part(party, "linkage", name) for party in agreed.parties) < 2:
            said = f"fewer than two parties take part in linkage for {name!r}"
            hint = 'write [[participation]] with features = ["linkage"] for two at least'
            raise Fault(said, hint, "purpose", i, "id")
