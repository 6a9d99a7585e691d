"""
Normalisation of street addresses: small letters and digits, one form of each abbreviation.

Street types and directions take their shortest usual form (USPS Publication 28, appendix C,
and the misspellings that simulated and real data hold), the dwelling (apt 4) is dropped:
parties write it too differently. Weakness: "st" is street and saint alike.
"""

from __future__ import annotations

import re

from linkage.encoding import whys
from linkage.encoding.rules import (
    LONGEST,
    Found,
    fold,
    null,
    said_missing,
    without_mojibake,
    word_set,
)

_DIRECTIONS = {
    "n": "north nth no", "s": "south sth so", "e": "east", "w": "west",
    "ne": "northeast", "nw": "northwest", "se": "southeast", "sw": "southwest",
}  # fmt: skip
_TYPES = {
    "aly": "alley ally", "ave": "avenue av aven avenu avn avnue avnu", "bch": "beach",
    "bnd": "bend", "blvd": "boulevard boul boulv bl", "brk": "brook", "byp": "bypass byps",
    "cir": "circle circ circl crcl cr", "clf": "cliff", "cmn": "common", "cor": "corner",
    "ct": "court crt", "cv": "cove", "crk": "creek", "cres": "crescent crsent crsnt",
    "xing": "crossing crssng", "dr": "drive drv driv dv", "est": "estate", "ests": "estates",
    "expy": "expressway exp express expw", "ext": "extension", "fld": "field", "flds": "fields",
    "fwy": "freeway freewy frway frwy", "gdn": "garden", "gdns": "gardens grdns", "gln": "glen",
    "grn": "green", "grv": "grove grov", "hbr": "harbor harb", "hts": "heights ht",
    "hwy": "highway highwy hiway hiwy hway", "hl": "hill", "hls": "hills", "holw": "hollow",
    "is": "island", "jct": "junction jction jctn", "knl": "knoll knol", "lk": "lake",
    "lndg": "landing lndng", "ln": "lane la lanes", "lp": "loop loops", "mdw": "meadow",
    "mdws": "meadows", "mnr": "manor", "mt": "mount", "mtn": "mountain mntn", "orch": "orchard",
    "oval": "ovl", "park": "prk pk", "pkwy": "parkway pkw pky parkwy pwy pkway parkways",
    "pass": "passage", "pike": "pikes", "pl": "place plac", "pln": "plain", "plz": "plaza plza",
    "pt": "point", "prt": "port", "rnch": "ranch", "rdg": "ridge rdge", "riv": "river rvr",
    "rd": "road raod roa ro", "rte": "route rt", "row": "", "run": "rn", "sq": "square sqr sqre",
    "spg": "spring", "spgs": "springs spngs", "sta": "station", "st": "street str stree stre strt",
    "smt": "summit", "ter": "terrace terr", "trce": "trace traces", "trl": "trail trails tr",
    "tpke": "turnpike trnpk turnpk", "vly": "valley", "vw": "view", "vlg": "village vill",
    "vis": "vista vsta vst", "walk": "walks", "way": "wy ways", "wds": "woods",
}  # fmt: skip
_NUMBERS = {
    "1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth", "5th": "fifth",
    "6th": "sixth", "7th": "seventh", "8th": "eighth", "9th": "ninth", "10th": "tenth",
    "11th": "eleventh", "12th": "twelfth", "ft": "fort", "st": "saint",
}  # fmt: skip
_ONE_FORM = {
    other: short
    for table in (_DIRECTIONS, _TYPES, _NUMBERS)
    for short, others in table.items()
    for other in others.split()
}

_NAMED_DWELLING = word_set("apt apartment unit suite ste lot bldg building room rm floor")
_DWELLING = _NAMED_DWELLING | {"#"}
_FRACTION = re.compile(r"\b\d+/\d+\b")
_HOUSE_RANGE = re.compile(r"^(\d+)\s*-\s*(\d+)\b")
_BOX = re.compile(r"(?:p ?o|post office) box\b|pobox\b")
_NO_WORD = re.compile(r"[^a-z0-9#]+")
_NO_FIXED_ADDRESS = re.compile(
    r"homeless(?: shelter| person)?|unhoused|undomiciled|unsheltered|transient|general delivery"
    r"|street homeless|lives (?:in|on) (?:the )?(?:car|street)|shelter"
    r"|no (?:fixed |known |permanent )?(?:address|street|abode|residence)|nfa"
)
_NOT_KNOWN = re.compile(
    r"(?:unknown|bad|invalid|wrong|not an?|incorrect) (?:address|street)|undeliverable"
    r"|(?:address|street) (?:unknown|not known|refused|not given|needed)|same(?: as above)?"
    r"|return(?:ed)? mail|moved(?: left no address)?|do not mail|update address"
)
_TEST = re.compile(r"test(?: (?:street|st|address|patient))?|(?:fake|dummy) (?:address|street|st)")

REMEMBERED = 100_000
"""Streets without house number that a StreetRule keeps, at most."""


class StreetRule:
    """
    The rule with a memory, equal to `street` (a test holds both together).

    People of one street differ by the house number, which no rule touches where plain words
    follow; so only the rest is worked out, once, and up to REMEMBERED of them are kept.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> Found:
        """Return the value of an address, or its null."""
        number, _, rest = text.partition(" ")
        if not (number.isascii() and number.isdigit()):
            return street(text)
        known = self._known.get(rest) or self._worked_out(rest)
        return (number + known, "") if known else street(text)

    def quick(self, raw: str) -> str:
        """
        Return the value of a cell as it is read, if it is a number and plain words, else "".

        Such a cell needs no cleaning: letters, digits, blanks and signs is all that
        `_worked_out` takes, and nothing that begins with a number says "not known".
        """
        number, _, rest = raw.partition(" ")
        if not (number.isdigit() and number.isascii()) or len(raw) > LONGEST:
            return ""
        tail = self.tail(rest)
        return number + tail if tail else ""

    def tail(self, rest: str) -> str:
        """Return what stands behind any number that `rest` follows; "" if that depends on it."""
        tail = self._known.get(rest)
        if tail is None:
            tail = self._worked_out(rest) if rest == rest.strip() else ""
        return tail

    def tails(self, rests: list[str]) -> list[str]:
        """Return the tail of each; most streets were met before."""
        known = map(self._known.get, rests)
        return [
            self.tail(rest) if tail is None else tail
            for tail, rest in zip(known, rests, strict=True)
        ]

    def _worked_out(self, rest: str) -> str:
        """Return what stands behind any number, with a blank in front; "" if that depends."""
        lowered = rest.lower()
        signed = "#" in lowered
        letters = lowered.replace("#", "") if signed else lowered
        if not (letters.isascii() and letters.replace(" ", "").isalnum()):
            return ""
        words = (lowered.replace("#", " # ") if signed else lowered).split()
        if _DWELLING.isdisjoint(words):
            kept = [_ONE_FORM.get(word, word) for word in words]
        else:
            kept = _without_dwellings(["1", *(_ONE_FORM.get(word, word) for word in words)])[1:]
        value = " ".join(kept)
        if not kept or len(value) < 2 or not any(map(str.isalpha, kept)):
            return ""
        if len(words) == len(kept):  # dwellings differ too much to be worth keeping
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[rest] = f" {value}"
        return f" {value}"


def street(text: str) -> Found:
    """Normalise house number and street: "123 North Main Street, Apt. 4" is "123 n main st"."""
    meant = without_mojibake(text)
    folded = fold(meant)
    if not folded[:1].isdigit():
        letters = re.sub(r"[^a-z]+", " ", folded).strip()
        if _NO_FIXED_ADDRESS.fullmatch(letters):
            return null(whys.NO_FIXED_ADDRESS)
        if _NOT_KNOWN.fullmatch(letters):
            return null(whys.NOT_KNOWN)
        if _TEST.fullmatch(letters):
            return null(whys.TEST_RECORD)
    plain = _FRACTION.sub(" ", folded) if "/" in folded else folded
    if "-" in plain:
        plain = _HOUSE_RANGE.sub(r"\1\2", plain)
    words = _NO_WORD.sub(" ", plain.replace("'", "").replace("#", " # ")).split()
    words = [_ONE_FORM.get(word, word) for word in words]
    unmarked = " ".join(word for word in words if word != "#")
    if _BOX.match(unmarked):
        words = _BOX.sub("pobox", unmarked).split()
    else:
        words = _without_dwellings(words)
    if not any(word.isalpha() or len(word) > 1 for word in words) or len("".join(words)) < 3:
        return null(whys.NOT_A_STREET)
    value = " ".join(words)
    if said_missing(value):
        return null(whys.NOT_KNOWN)
    return value, whys.MOJIBAKE if meant != text else ""


def house_number(value: str) -> str:
    """Return the number that a normalised street begins with, "" if there is none."""
    first = value.partition(" ")[0]
    return first if first.isdigit() or (first[0].isdigit() and not _is_ordinal(first)) else ""


def street_name(value: str) -> str:
    """
    Return the name of a normalised street alone, without house number, directions and type:
    "main" of "123 n main st". Where nothing else is left, the words are kept as they are.
    """
    words = value.split()
    if len(words) > 1 and house_number(value):
        del words[0]
    kept = [word for word in words if word not in _DIRECTIONS] or words
    if len(kept) > 1 and kept[-1] in _TYPES:
        del kept[-1]
    return " ".join(kept)


def _without_dwellings(words: list[str]) -> list[str]:
    """Return the words without any dwelling at their end, and without signs."""
    if "#" not in words:
        return _without_dwelling(words)
    while words and words[-1] == "#":
        words.pop()
    # Twice, for a sign between two numbers may have hidden a dwelling.
    return _without_dwelling([word for word in _without_dwelling(words) if word != "#"])


def _without_dwelling(words: list[str]) -> list[str]:
    """Return the words before a dwelling at their end: "apt 4", "# 4", "unit 4 b", "apt # 4"."""
    while len(words) > 2:
        numbered = words[-1][0].isdigit() or words[-1][-1].isdigit() or len(words[-1]) == 1
        if words[-2] in _DWELLING and numbered:
            words = words[:-2]
        elif numbered and len(words) > 3 and words[-3] in _NAMED_DWELLING and words[-2].isdigit():
            words = words[:-3]
        else:
            break
        if len(words) > 1 and words[-1] in _DWELLING:
            words = words[:-1]
    return words


def _is_ordinal(word: str) -> bool:
    return re.fullmatch(r"\d+(st|nd|rd|th)", word) is not None
