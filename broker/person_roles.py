"""
What a person may be at this broker, and how that is written: "steward:STUDY:PARTY".

    admin                    like an admin with a key
    auditor                  reads the audit log, its heads, and studies without counts
    steward:STUDY:PARTY      reads what concerns a party; decisions are signed with the party's key
    operator:STUDY:PARTY     reads the state of what a party or contributor uploads
    researcher:STUDY         reads the study's questions
    reviewer:STUDY           reviews pairs that stay in doubt

Admin and auditor stand alone: an auditor checks the admin, and an admin sees figures that would
tell a party, a reviewer or a researcher more than these may know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from linkage.errors import KeyRefused

Kind = Literal["admin", "auditor", "steward", "operator", "researcher", "reviewer"]

_OF_A_PARTY = ("steward", "operator")
_ALONE = ("admin", "auditor")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}[a-z0-9]")
_HINT = (
    "write admin, auditor, steward:STUDY:PARTY, operator:STUDY:PARTY, researcher:STUDY or"
    " reviewer:STUDY"
)


@dataclass(frozen=True, slots=True, order=True)
class PersonRole:
    """One role of a person. study_id: None for admin and auditor. party: of steward, operator."""

    kind: Kind
    study_id: str | None = None
    party: str | None = None

    def __str__(self) -> str:
        return ":".join(part for part in (self.kind, self.study_id, self.party) if part)


def parse_role(text: str) -> PersonRole:
    """Read a role as `str(PersonRole)` writes it. Raises KeyRefused, saying what is known."""
    kind, *named = text.split(":")
    wanted = 0 if kind in _ALONE else 2 if kind in _OF_A_PARTY else 1
    sound = kind in get_args(Kind) and len(named) == wanted and all(map(_NAME.fullmatch, named))
    if not sound:
        raise KeyRefused("this is no role of a person", hint=_HINT)
    study_id, party = [*named, None, None][:2]
    return PersonRole(kind, study_id, party)  # type: ignore[arg-type]  # one of Kind, see above


def parse_roles(texts: Iterable[str]) -> list[PersonRole]:
    """Read several roles. Raises KeyRefused."""
    return [parse_role(text) for text in texts]


def require_compatible(roles: Iterable[PersonRole]) -> frozenset[PersonRole]:
    """
    Return the roles. Raises KeyRefused where one person may not have them all: admin or auditor
    beside anything else, and two parties of one study.
    """
    found = frozenset(roles)
    alone = next((role.kind for role in found if role.kind in _ALONE), None)
    if alone and len(found) > 1:
        raise KeyRefused(
            f"the role {alone} stands alone", hint="give this person another account for the rest"
        )
    for study_id in {role.study_id for role in found}:
        parties = {role.party for role in found if role.study_id == study_id and role.party}
        if len(parties) > 1:
            raise KeyRefused(
                f"one person may not act for two parties of the study {study_id!r}",
                hint="give this person one account for each party",
            )
    return found
