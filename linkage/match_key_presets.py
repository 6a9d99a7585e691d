"""
Named sets of match-key rules for the study file.

    [study]
    match_key_presets = ["default", "opentoken"]

A preset saves writing [[match_key]] tables. A study that names neither rules nor presets gets
"default". A preset's rule that no two parties can compute is left out, for it could never agree.

These are rules, not interchangeable values: a key of `opentoken-t1` is HMAC under this study's
key over values that we normalise, so it equals no token made by OpenToken or Datavant, nor one
of another study. What a name stands for never changes, because it is part of the schema hash;
a better list gets a new name.

Sources: "default": the rules measured in docs/matching.md, strict ones first, loose ones as the
broker's blocking. "opentoken": Truveta's OpenToken, T1-T4; "opentoken-all" adds T5, which many
people share, so most of its keys are left out as repeated. "datavant": the two of Datavant's
tokens whose fields are published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rules = Mapping[str, tuple[str, ...]]

_OPENTOKEN: Rules = {
    "opentoken-t1": ("last_name", "first_name:initial", "sex", "date_of_birth"),
    "opentoken-t2": ("last_name", "first_name", "date_of_birth", "zip:3"),
    "opentoken-t3": ("last_name", "first_name", "sex", "date_of_birth"),
    "opentoken-t4": ("ssn", "sex", "date_of_birth"),
}

PRESETS: Mapping[str, Rules] = {
    "default": {
        "default-first-mi-last": ("first_name", "middle_name:initial", "last_name"),
        "default-last-dob": ("last_name", "date_of_birth"),
        "default-first-dob": ("first_name", "date_of_birth"),
        "default-first3-mi-dob": ("first_name:3", "middle_name:initial", "date_of_birth"),
        "default-soundlast-dob-sex": ("last_name:sound", "date_of_birth", "sex"),
        "default-first-last-monthday": ("first_name", "last_name", "date_of_birth:month_day"),
        "default-first-last-year": ("first_name", "last_name", "date_of_birth:year"),
        "default-ssn-first1": ("ssn", "first_name:initial"),
        "default-ssn4-mi-last": ("ssn:last4", "middle_name:initial", "last_name"),
        "default-street-first": ("street", "first_name"),
        "default-street-mi-last": ("street", "middle_name:initial", "last_name"),
        "default-house-first-last": ("street:house_number", "first_name", "last_name"),
        "default-phone-first3": ("phone", "first_name:3"),
        "default-first-last-zip": ("first_name", "last_name", "zip"),
    },
    "opentoken": _OPENTOKEN,
    "opentoken-all": {**_OPENTOKEN, "opentoken-t5": ("last_name", "first_name:3", "sex")},
    "datavant": {
        "datavant-t1": ("last_name", "first_name:initial", "sex", "date_of_birth"),
        "datavant-t2": ("last_name:sound", "first_name:sound", "sex", "date_of_birth"),
    },
}
DEFAULT = ("default",)


def with_presets(raw: Any) -> Any:
    """
    Return the raw study file with the rules of its presets after its own [[match_key]] tables.

    Own tables keep their places, so that errors name their lines. Anything malformed is left
    for the study's validation to refuse; a rule of the same name and fields is not added twice.
    """
    if not isinstance(raw, Mapping):
        return raw
    header, own = raw.get("study"), raw.get("match_key", [])
    named = header.get("match_key_presets") if isinstance(header, Mapping) else None
    if named is None:
        named = () if own else DEFAULT
    if not isinstance(named, list | tuple) or not isinstance(own, list | tuple):
        return raw
    known = [_shape(rule) for rule in own]
    parties = _fields_of_parties(raw.get("party"))
    more = []
    for preset in named:
        for rule, fields in PRESETS.get(preset, {}).items() if isinstance(preset, str) else ():
            needed = {ref.partition(":")[0] for ref in fields}
            if (rule, fields) not in known and sum(needed <= held for held in parties) > 1:
                known.append((rule, fields))
                more.append({"id": rule, "fields": list(fields)})
    return {**raw, "match_key": [*own, *more]} if more else raw


def preset_of(rule: str, fields: tuple[str, ...]) -> str | None:
    """Return a preset in which `rule` has other fields than these, None if there is none."""
    for preset, rules in PRESETS.items():
        if rules.get(rule, fields) != fields:
            return preset
    return None


def _shape(rule: Any) -> tuple[Any, Any]:
    found = rule if isinstance(rule, Mapping) else getattr(rule, "__dict__", {})
    fields = found.get("fields")
    return found.get("id"), tuple(fields) if isinstance(fields, list | tuple) else None


def _fields_of_parties(parties: Any) -> list[set[str]]:
    held = []
    for party in parties if isinstance(parties, list | tuple) else ():
        found = party if isinstance(party, Mapping) else getattr(party, "__dict__", {})
        fields = found.get("fields")
        if isinstance(fields, list | tuple):
            held.append({field for field in fields if isinstance(field, str)})
    return held
