"""
Normalisation of names: small ASCII letters only.

Accents are folded, apostrophes, hyphens and blanks dropped (O'Brien, obrien; Mary-Ann, mary
ann: one form each), titles and generation suffixes dropped, text in brackets or quotes (a
nickname) dropped. Weaknesses: scripts other than Latin are not transliterated, so such a name
is invalid; nicknames are not expanded.
"""

from __future__ import annotations

import re

from linkage.encoding.rules import INVALID, PLACEHOLDER, fold, null, word_set

_ASIDE = re.compile(r"\([^)]*\)|\[[^\]]*\]|\"[^\"]*\"")
_APOSTROPHE = re.compile("['`]")
_WORD = re.compile(r"[a-z]+")

_TITLES = word_set("mr mrs ms miss mister dr doctor prof professor rev reverend sir")
_SUFFIXES = word_set("jr sr ii iii iv md phd dds rn esq jnr snr")

_STANDS_FOR_PERSON = word_set("""
    unknown unk unkn unnamed noname anonymous unidentified test tester testing dummy fake
    patient baby babyboy babygirl babymale babyfemale boy girl newborn infant twin lady man
    woman wife husband spouse mother mom mommy mama father dad daddy son daughter child kid
    children adult minor male female person occupant resident tenant homeowner householder
    none null nfn nln nmn nmi fnu lnu mnu deceased refused declined redacted
""")
"""A name of one of these alone is nobody's: hospital and census usage (NMN: no middle name)."""

_OF_NOBODY = word_set("of the not name house household given known")
_BESIDE = word_set("in a an no and one two first last middle b c d f m")
"""With the two sets above: "lady of the house", "not given", "baby boy a", "no name"."""

_ALSO_SURNAMES = frozenset({"minor", "person", "child", "son", "man", "girl", "mama", "kid"})
"""Placeholders that are also common surnames: alone in a last name they are kept."""


def first_name(text: str) -> tuple[str, str]:
    """Normalise a first name. One letter is kept: it may be an initial."""
    return _name(text, surname=False)


def middle_name(text: str) -> tuple[str, str]:
    """Normalise a middle name, full or an initial. "NMN" (no middle name) is a placeholder."""
    return _name(text, surname=False)


def last_name(text: str) -> tuple[str, str]:
    """Normalise a last name. One letter is a placeholder: no surname is that short in practice."""
    value, reason = _name(text, surname=True)
    return null(PLACEHOLDER) if len(value) == 1 else (value, reason)


def _name(text: str, *, surname: bool) -> tuple[str, str]:
    if text == "NA":  # R's missing value; "Na" and "na" are a surname
        return null(PLACEHOLDER)
    folded = _APOSTROPHE.sub("", fold(text))
    words = _WORD.findall(_ASIDE.sub(" ", folded)) or _WORD.findall(folded)
    if not words:
        return null(INVALID)
    if _stands_for_nobody(words, surname=surname):
        return null(PLACEHOLDER)
    kept = _without_titles(words)
    value = "".join(kept)
    if not value or value in _TITLES or _stands_for_nobody([value], surname=surname):
        return null(PLACEHOLDER)
    return value, ""


def _stands_for_nobody(words: list[str], *, surname: bool) -> bool:
    if surname and len(words) == 1 and words[0] in _ALSO_SURNAMES:
        return False
    joined = "".join(words)
    if len(joined) > 2 and len(set(joined)) == 1:
        return True
    found = set(words)
    if not found <= _STANDS_FOR_PERSON | _OF_NOBODY | _BESIDE:
        return False
    return bool(found & _STANDS_FOR_PERSON) or (len(words) > 1 and bool(found & _OF_NOBODY))


def _without_titles(words: list[str]) -> list[str]:
    """Return the words without leading titles and trailing suffixes; [] if nothing else is."""
    start, stop = 0, len(words)
    while start < stop and words[start] in _TITLES:
        start += 1
    while stop > start and words[stop - 1] in _SUFFIXES and stop > 1:
        stop -= 1
    return words[start:stop]
