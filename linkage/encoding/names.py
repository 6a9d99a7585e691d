"""
Normalisation of names: small ASCII letters; several surnames stay apart by one hyphen.

Accents are folded, apostrophes and blanks dropped (O'Brien, obrien; Mary-Ann, mary ann: one form
each), titles, generation suffixes and degrees dropped, text in brackets or quotes dropped.
"Smith-Jones" is "smith-jones" inside, so that a rule may ask for either surname; the field itself
is given joined (linkage.encoding.transforms). Weaknesses: scripts other than Latin are not
transliterated; German ä is "a", so Müller and Mueller differ.
"""

from __future__ import annotations

import re

from linkage.encoding import whys
from linkage.encoding.rules import (
    LONGEST,
    MISSING_WORDS,
    Found,
    fold,
    null,
    said_missing,
    without_mojibake,
    word_set,
)

_ASIDE = re.compile(r"\([^)]*\)|\[[^\]]*\]|\{[^}]*\}|\"[^\"]*\"|(?<![a-z])'[^']+'(?![a-z'])")
_BETWEEN = re.compile(r"[\s\-/,;&+_.]+")
_ORDINAL = re.compile(r"[1-9](?:st|nd|rd|th)")
_LETTERS = re.compile(r"[a-z]+")
_NO_LETTER = re.compile(r"[^a-z]+")
_LOOKALIKE_LETTERS = str.maketrans("058|", "osbl")

_TITLES = word_set("mr mrs ms mx miss mister dr doctor prof professor rev reverend sir mme mlle")
_TITLES_BEFORE = _TITLES | word_set("hon capt sgt lt rabbi pastor sra srta herr frau fr")
"""The second kind are names as well, so alone they are kept."""
_SUFFIXES = word_set("""
    jr sr ii iii iv vii viii jnr snr junior senior esq md phd dds dmd dvm rn lpn cpa mba
""")
"""Not DO, PA or V: degrees and numbers that are names as well."""
_BIRTH_NAME = word_set("nee aka fka formerly")
"""What follows between two names is another name of the person, and goes."""

_PARTICLES = word_set("""
    de la del della dell dello dalla dal der den des du di da do dos das van von vom zu zum zur ter
    te le les lo los las el al ul ibn bin bint ben ap ab abu umm mc mac o d l st ste saint san santa
    fitz
""")
"""Words that belong to the surname after them; at the end they are surnames themselves."""

_STANDS_FOR_PERSON = word_set("""
    unknown unk unkn unnamed noname anonymous unidentified
    patient baby babyboy babygirl babymale babyfemale boy girl newborn infant twin lady man
    woman wife husband spouse mother mom mommy mama father dad daddy son daughter child kid
    children adult minor male female person occupant resident tenant homeowner householder
    none null nfn nln nmn nmi fnu lnu mnu deceased refused declined redacted gentleman relative
    sibling brother sister guardian bb bg trauma
""")
"""A name of one of these alone is nobody's: hospital and census usage (NMN: no middle name)."""
_TEST = word_set("test tester testing dummy fake zztest xtest testpatient donotuse dnu duplicate")

_OF_NOBODY = word_set("of the not name house household given known")
_BESIDE = word_set("in a an no and one two three first last middle b c d f m use do")
"""With the sets above: "lady of the house", "not given", "baby boy a", "no name"."""

_ALSO_SURNAMES = word_set("minor person child son man girl mama kid brother twin bb bg")
"""Placeholders that are also surnames: alone in a last name they are kept."""

_AROUND_PERSON = _STANDS_FOR_PERSON | _OF_NOBODY | _BESIDE
_AROUND_TEST = _AROUND_PERSON | _TEST
_LOOK_CLOSER = _STANDS_FOR_PERSON | _TEST | _TITLES | word_set("na")
NOT_PLAIN = _LOOK_CLOSER | MISSING_WORDS
"""Words that `quick` leaves to the rule."""


def first_name(text: str) -> Found:
    """Normalise a first name. Of one letter only the transforms of an initial make use."""
    if text.isascii() and text.isalpha() and _plain(word := text.lower()):
        return word, ""
    value, why = _name(text, surname=False, shorten=True)
    return value, why or (whys.ONLY_INITIAL if len(value) == 1 else "")


def middle_name(text: str) -> Found:
    """Normalise a middle name, full or an initial. "NMN" (no middle name) is a placeholder."""
    return _name(text, surname=False, shorten=False)


def last_name(text: str) -> Found:
    """Normalise a last name. One letter is a placeholder: no surname is that short in practice."""
    if text.isascii() and text.isalpha() and _plain(word := text.lower()):
        return word, ""
    value, why = _name(text, surname=True, shorten=False)
    return null(whys.ONE_LETTER) if len(value) == 1 else (value, why)


def quick(raw: str) -> str:
    """
    Return the first or last name that a cell holds as it is read, if it is one plain word of three
    letters or more that stands for nothing else; else "".
    """
    if not (raw.isalpha() and raw.isascii()) or len(raw) > LONGEST:
        return ""
    word = raw.lower()
    return word if _plain(word) and word not in MISSING_WORDS else ""


def _plain(word: str) -> bool:
    return word not in _LOOK_CLOSER and len(word) > 2 and word != word[0] * len(word)


def _name(text: str, *, surname: bool, shorten: bool) -> Found:
    if text == "NA":  # R's missing value; "Na" and "na" are a surname
        return null(whys.NOT_KNOWN)
    meant = without_mojibake(text)
    why = whys.MOJIBAKE if meant != text else ""
    words, stray = _words(meant, surname=surname)
    if not words:
        letters = any(map(str.isalpha, text))
        return null(whys.NOT_LATIN if letters else whys.NO_LETTERS)
    if placeholder := _placeholder(words, surname=surname):
        return null(placeholder)
    kept = _without_titles(words, surname=surname)
    if not kept or (len(kept) == 1 and kept[0] in _TITLES):
        return null(whys.TITLE)
    if shorten and len(kept) > 1 and len(kept[0]) > 1 and len(kept[-1]) == 1:
        del kept[-1]
        why = why or whys.INITIAL_LEFT_OUT
    if placeholder := _placeholder(kept, surname=surname):
        return null(placeholder)
    value = "-".join(_surnames(kept)) if surname else "".join(kept)
    if placeholder := _placeholder([value], surname=surname):
        return null(placeholder)
    if said_missing(value):
        return null(whys.NOT_KNOWN)
    if len(kept) > 1 and value != text.lower():
        # What stands first or last now may be a title or a suffix that joining made.
        again, other = _name(value, surname=surname, shorten=shorten)
        return again, (why or stray or other) if again else other
    return value, why or stray


def _words(text: str, *, surname: bool) -> tuple[list[str], str]:
    """Return the words of a name, and what was repaired to get them."""
    folded = fold(text)
    words = folded.replace("-", " ").split()
    if folded.isascii() and "".join(words).isalpha():
        return _without_birth_name(words), ""
    aside = _ASIDE.sub(" ", folded)
    folded = aside if _LETTERS.search(aside) else folded
    before, comma, after = folded.partition(",")
    why = ""
    if surname and comma and _LETTERS.search(before):
        rest = [word for word in _BETWEEN.split(after.replace("'", "")) if _LETTERS.search(word)]
        if rest and not all(word in _SUFFIXES or _ORDINAL.fullmatch(word) for word in rest):
            folded, why = before, whys.AFTER_COMMA
    words = []
    for piece in _BETWEEN.split(folded.replace("'", "")):
        if _LETTERS.fullmatch(piece):
            words.append(piece)
        elif piece and not _ORDINAL.fullmatch(piece):
            why = why or whys.STRAY
            if _LETTERS.search(piece):
                words.append(_NO_LETTER.sub("", piece.translate(_LOOKALIKE_LETTERS)))
    return _without_birth_name(words), why


def _without_birth_name(words: list[str]) -> list[str]:
    for at, word in enumerate(words[1:-1], start=1):
        if word in _BIRTH_NAME:
            return words[:at]
    return words


def _placeholder(words: list[str], *, surname: bool) -> str:
    if surname and len(words) == 1 and words[0] in _ALSO_SURNAMES:
        return ""
    joined = "".join(words)
    if len(joined) > 2 and joined == joined[0] * len(joined):
        return whys.ONE_CHARACTER
    if not _AROUND_TEST.issuperset(words):
        return ""
    found = set(words)
    if found & _TEST:
        return whys.TEST_RECORD
    if found & _STANDS_FOR_PERSON or (len(words) > 1 and found & _OF_NOBODY):
        return whys.STANDS_FOR_PERSON
    return ""


def _without_titles(words: list[str], *, surname: bool) -> list[str]:
    """Return the words without leading titles and trailing suffixes; [] if nothing else is."""
    start, stop = 0, len(words)
    while start < stop and (
        words[start] in _TITLES or (words[start] in _TITLES_BEFORE and start + 1 < stop)
    ):
        start += 1
    while stop > start and stop > 1:
        if words[stop - 1] in _SUFFIXES:
            stop -= 1
        elif surname and stop - start > 2 and "".join(words[stop - 2 : stop]) in _SUFFIXES:
            stop -= 2  # "Smith M.D.", "Smith Ph.D."
        else:
            break
    return words[start:stop]


def _surnames(words: list[str]) -> list[str]:
    """Return the surnames of a last name: particles with the name after them, letters joined."""
    found: list[str] = []
    before = ""
    for at, word in enumerate(words):
        if word in _PARTICLES and at + 1 < len(words):
            before += word
        elif len(word) == 1 and word not in ("y", "e") and found and not before:
            found[-1] += word
        else:
            found.append(before + word)
            before = ""
    return found
