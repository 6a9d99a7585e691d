"""
Offering what questions may name: the list that this site makes of its own data, signs and sends.

    require_remembered(session)     the private folder knows of the list that the broker has
    offer = prepare(session)        counts, or the list of before where that is younger than a month
    send(session, offer)            the newest list replaces those before; withdraw(session)

No count leaves, and nothing that fewer persons have than the study's minimum cell. Two lists less
than PERIOD_DAYS apart are the same list: whoever could compare one of each day would see whose
records came between (docs/adr/0033). What was counted stays in the private folder, encrypted.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from linkage.errors import Conflict, SiteRefused
from linkage.offered import (
    ImagingField,
    Offered,
    OfferedConcept,
    OfferTaken,
    OfferWithdrawal,
    digest_of,
    packed,
    to_lines,
)
from sites.cohort.blur import Blur
from sites.session import Session

PERIOD_DAYS = 30
_DAY_S = 86_400
_NAME = "offered"
"""Of the list among what a vault keeps, and of the purpose of the key that moves its edge."""

DISCLOSES = (
    "The list tells the broker's operator, and every researcher and steward of the study, that at"
    " least so many persons of this site have each entry. It holds no count, and says nothing of"
    " who is linked."
)


@dataclass(frozen=True, slots=True)
class Offer:
    """
    A list as it would be sent. made_at: when it was counted, Unix seconds. left_out: how many
    concepts of vocabularies that may not be passed on. unknown: that the vocabulary does not name.
    again: it is the list of before.
    """

    made_at: int
    least: int
    concepts: tuple[OfferedConcept, ...]
    values: dict[ImagingField, tuple[str, ...]]
    left_out: dict[str, int]
    unknown: int
    again: bool

    @property
    def next_day(self) -> str:
        """From when another list can be made, UTC."""
        return _day(self.made_at + PERIOD_DAYS * _DAY_S)

    def rows(self) -> dict[str, object]:
        """Return what a person reads of it."""
        by_domain = Counter(one.domain for one in self.concepts)
        rows: dict[str, object] = {
            f"{domain} concepts": f"{count:,}" for domain, count in sorted(by_domain.items())
        }
        rows |= {f"{name} values": f"{len(found):,}" for name, found in sorted(self.values.items())}
        rows["each of at least"] = f"{self.least} persons; rare ones are not in it"
        if self.left_out:
            told = ", ".join(f"{name} {count:,}" for name, count in sorted(self.left_out.items()))
            rows["left out"] = f"{told}: may not be passed on (licences, not_offered in [omop])"
        if self.unknown:
            rows["without a name"] = f"{self.unknown:,} concepts that the vocabulary does not have"
        if self.again:
            rows["counted"] = f"as before; anew from {self.next_day} on"
        return rows

    def to_json(self) -> dict[str, object]:
        """Return the whole list for a program."""
        return {
            "made_at": self.made_at,
            "least": self.least,
            "again": self.again,
            "anew_from": self.next_day,
            "left_out": self.left_out,
            "unknown": self.unknown,
            "concepts": [one.model_dump(mode="json", exclude={"version"}) for one in self.concepts],
            "values": self.values,
        }


def require_remembered(session: Session, *, now: float | None = None) -> None:
    """
    Refuse to go on where a private folder was put back that does not know of this month's list: a
    new one would be drawn, and two drawn within PERIOD_DAYS tell whose records came between.

    Raises NotAllowed at a contributor, Conflict.
    """
    session.require_commons()
    at = int(time.time() if now is None else now)
    there = max(
        (one.head.made_at for one in session.broker.offers(session.study_id)
         if one.head.party == session.party),
        default=0,
    )  # fmt: skip
    known = json.loads(session.vault.kept(_NAME) or b"{}").get("made_at", 0)
    if known < there and at < (ends := there + PERIOD_DAYS * _DAY_S):
        raise Conflict(
            f"the broker has this party's list of {_day(there)}, which this private folder does not"
            " know of: it was put back from a backup, or another folder sent the list",
            hint=f"leave the list as it is, take it back by --withdraw, or send a new one from"
            f" {_day(ends)} on; earlier, the two would tell whose records came between",
        )


def _day(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()


def prepare(session: Session, *, now: float | None = None, keep: bool = True) -> Offer:
    """
    Return the list to send: the one of before, or where that is older than PERIOD_DAYS or was made
    for another minimum cell, a new one. keep: False leaves the private folder as it is.

    Raises NotAllowed at a contributor, SiteRefused without [omop] and [imaging], SourceRefused.
    """
    session.require_commons()
    at = int(time.time() if now is None else now)
    rules = {
        "least": session.signed.study.study.minimum_cell,
        "reach": session.signed.study.counts.noise,
    }
    found: dict[str, Any] = json.loads(session.vault.kept(_NAME) or b"{}")
    young = found.get("made_at", 0) > at - PERIOD_DAYS * _DAY_S
    again = young and all(found.get(name) == value for name, value in rules.items())
    if not again:
        found = {"made_at": at, **rules, **_counted(session, at, **rules)}
        if keep:
            session.vault.keep(_NAME, json.dumps(found).encode())
    return _offer(session, found, again=again)


def send(session: Session, offer: Offer) -> OfferTaken:
    """Sign the list and send it; it replaces the party's list of before."""
    data = to_lines(offer.concepts)
    head = Offered(
        study_id=session.study_id,
        party=session.party,
        made_at=offer.made_at,
        least=offer.least,
        concepts=len(offer.concepts),
        digest=digest_of(data),
        values=offer.values,
        left_out=tuple(sorted(offer.left_out)),
        said_at=int(time.time()),
    ).sign(session.identity)
    return session.broker.offer(session.study_id, packed(head, data))


def withdraw(session: Session) -> OfferTaken:
    """Take the list back that the broker has. Raises NotFound where there is none."""
    session.require_commons()
    found = json.loads(session.vault.kept(_NAME) or b"{}")
    said = OfferWithdrawal(
        study_id=session.study_id,
        party=session.party,
        # Where the private folder was lost: whatever there is.
        made_at=found.get("made_at") or int(time.time()),
        said_at=int(time.time()),
    ).sign(session.identity)
    return session.broker.withdraw_offer(said)


def _counted(session: Session, at: int, *, least: int, reach: int) -> dict[str, object]:
    from sites.cohort.offered import Edge, offered_concepts, offered_values
    from sites.cohort.omop import OmopSource

    site = session.site
    if site.omop is None and site.imaging is None:
        raise SiteRefused(
            file="the site file",
            line=0,
            key="omop",
            rule="names neither [omop] nor [imaging], so there is nothing to offer",
            hint="the parties that answer questions offer what these may name",
        )
    key = session.vault.secret().derive(f"{_NAME} {session.study_id}")
    edge = Edge(Blur(key, reach), least, dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat())
    made: dict[str, object] = {"concepts": [], "unknown": 0, "values": {}}
    if site.omop is not None:
        with OmopSource.open(site.omop) as source:
            found = offered_concepts(source, edge)
        kept = [one.model_dump(mode="json", exclude={"version"}) for one in found.found]
        made |= {"concepts": kept, "unknown": found.unknown}
    if site.imaging is not None:
        made["values"] = offered_values(site.imaging, edge)
    return made


def _offer(session: Session, found: dict[str, Any], *, again: bool) -> Offer:
    """Return what of the counted is sent. The setting counts at once, whatever was counted when."""
    barred = session.site.omop.barred if session.site.omop else frozenset()
    concepts = [OfferedConcept.model_validate(one) for one in found["concepts"]]
    out = Counter(one.vocabulary for one in concepts if one.vocabulary.lower() in barred)
    return Offer(
        made_at=found["made_at"],
        least=found["least"],
        concepts=tuple(one for one in concepts if one.vocabulary.lower() not in barred),
        values={name: tuple(texts) for name, texts in found["values"].items()},
        left_out=dict(out),
        unknown=found["unknown"],
        again=again,
    )
