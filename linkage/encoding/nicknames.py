"""
Formal names of nicknames: debby is deborah, bob is robert.

    formal_name("bob")    "robert"
    table_digest()        pinned by a test: another table would give other match keys

From the table of the package `nicknames` (Apache-2.0), which is loaded at the first call, and a
preference among what it offers, for it holds rare names beside frequent ones (mike: michael,
micheal, miguel). Terry is one name for Terence and Theresa alike, so a rule that uses this should
hold a birth date or a sex too. Weakness: English names only.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache

_FREQUENT = """
    sandra james michael john william robert david richard joseph thomas christopher charles
    daniel matthew anthony mark donald steven andrew paul joshua kenneth kevin brian timothy
    ronald jason george edward jeffrey ryan jacob nicholas gary eric jonathan stephen lawrence
    justin scott brandon benjamin samuel gregory alexander patrick francis raymond dennis tyler
    aaron adam nathan henry zachary douglas peter noah kyle ethan christian jeremy walter keith
    austin roger gerald theodore arthur albert frederick leonard eugene vincent philip louis
    bradley gabriel russell randall joel alan martin harold carl ralph roy wayne bryan sean
    jesse jordan dylan juan jose mary patricia jennifer linda elizabeth barbara susan jessica
    karen sarah lisa nancy ashley emily kimberly margaret donna michelle carol amanda melissa
    deborah stephanie rebecca sharon laura cynthia dorothy amy kathleen angela shirley emma
    brenda pamela nicole anna samantha katherine christine debra rachel carolyn janet maria
    olivia heather helen catherine diane julie victoria joyce lauren kelly christina ruth joan
    virginia judith evelyn hannah andrea megan cheryl jacqueline madison theresa teresa abigail
    sophia martha sara gloria janice kathryn ann isabella charlotte julia grace amber alice jean
    denise frances danielle marilyn natalie beverly diana brittany alexis kayla lori marie
"""
"""
Given names of their own, never taken for nicknames, after the most frequent names of the last
hundred years (SSA). A nickname of several takes the first of them here.
"""


@cache
def _table() -> dict[str, str]:
    from nicknames import name_triplets

    given = [
        (one.name1, one.name2) for one in name_triplets() if one.relationship == "has_nickname"
    ]
    rank = {name: place for place, name in enumerate(_FREQUENT.split())}
    nicknames = Counter(formal for formal, _ in given)

    def preference(name: str) -> tuple[int, int, str]:
        """Frequent names first, then those with many nicknames, then by alphabet."""
        return rank.get(name, len(rank)), -nicknames[name], name

    best: dict[str, str] = {}
    for formal, nickname in given:
        known = best.get(nickname, nickname)
        if nickname not in rank and preference(formal) < preference(known):
            best[nickname] = formal
    return {name: _followed(best, name) for name in best}


def _followed(best: dict[str, str], name: str) -> str:
    while name in best:  # ends: each step goes to a name of higher preference
        name = best[name]
    return name


def formal_name(name: str) -> str:
    """Return the formal name of a normalised first or middle name; itself if none is known."""
    return _table().get(name, name)


def table_digest() -> str:
    """Return the hex SHA-256 of the table as it is used: "nickname formal" lines, sorted."""
    lines = sorted(f"{nickname} {formal}" for nickname, formal in _table().items())
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()
