"""
Normalisation of sex: "f" or "m".

Codes of HL7 v2 (table 0001) and v3, FHIR R4, OMOP (concept ids), DICOM (0010,0040), SNOMED CT and
plain words. What is told as other or unknown is counted as told, and compared as missing.
Numbers 1 and 2 are refused: ISO 5218 and others mean different things by them.
"""

from __future__ import annotations

from linkage.encoding import whys
from linkage.encoding.rules import Found, null, said_missing, word_set

_SEX = {
    **dict.fromkeys(word_set("m male man boy masculine masculino 8507 248153007 la2-8"), "m"),
    **dict.fromkeys(word_set("f female woman girl feminine femenino 8532 248152002 la3-6"), "f"),
}
_OTHER = word_set(
    "o other ot x a ambiguous undifferentiated un i intersex nonbinary nb transgender "
    "8521 8570 44814649"
)
_UNKNOWN = word_set("u unknown unk unkn ni nask asku n na notapplicable 0 8551 44814650 44814653")


def sex(text: str) -> Found:
    """Normalise a sex or one of its codes."""
    code = text.casefold().rstrip(".")
    if (known := _SEX.get(code)) is not None:
        return known, ""
    code = code.replace("-", "").replace(" ", "")
    if code in _OTHER:
        return null(whys.OTHER_SEX)
    if code in _UNKNOWN:
        return null(whys.UNKNOWN_SEX)
    return null(whys.NOT_KNOWN if said_missing(text) else whys.UNKNOWN_CODE)
