"""
One FHIR R4 Patient as one record: which of several names, addresses and numbers counts.

https://hl7.org/fhir/R4/datatypes.html: HumanName.use, Address.use, ContactPoint.rank and period.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

SSN_SYSTEM = "http://hl7.org/fhir/sid/us-ssn"
_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"

Uses = Mapping[str | None, int]


def _order(*uses: str) -> Uses:
    return {use or None: rank for rank, use in enumerate(uses)}


_NAME_USES = _order("official", "usual", "", "temp", "nickname", "old", "maiden")
_ADDRESS_USES = _order("home", "", "temp", "work", "billing", "old")
_TELECOM_USES = _order("home", "mobile", "", "temp", "work", "old")
_ID_USES = _order("official", "usual", "", "secondary", "temp", "old")
"""The order in which uses are preferred; what is in none ("anonymous") is not used."""

_LAST = 1 << 30
Json = Mapping[str, Any]


class PatientReader:
    """
    Makes records of Patients. record_id: "id" or "identifier:SYSTEM". wanted: what to read, by
    name of the column, in the order of the values. counts: what was met, for the notes.
    no_id: rule and hint for a Patient without a record id.
    """

    def __init__(self, record_id: str, wanted: Mapping[str, str], counts: Counter[str]) -> None:
        self._system = record_id.removeprefix("identifier:") if record_id != "id" else ""
        self._makers = [(_PARTS.get(one, ""), _READERS[one]) for one in wanted.values()]
        self._counts = counts
        self.no_id = ("has no id", "give it one at the source")
        if self._system:
            hint = "correct [source] record_id, or use id"
            self.no_id = ("has no identifier of the system that the site file names", hint)
        self._today = dt.date.today().isoformat()

    def read(self, patient: Json) -> tuple[str, list[str | None]]:
        """Return the record id, "" if there is none, and the values, None where missing."""
        self._count(patient)
        name = self._best(_list(patient.get("name")), _NAME_USES)
        address = self._best(_list(patient.get("address")), _ADDRESS_USES)
        parts = {"name": name, "address": address, "": patient}
        values = [make(parts[part], self) for part, make in self._makers]
        return self._record_id(patient), [
            value.strip() or None if value else None for value in values
        ]

    def phone(self, patient: Json) -> str | None:
        return self._telecom(patient, "phone") or self._telecom(patient, "sms")

    def email(self, patient: Json) -> str | None:
        return self._telecom(patient, "email")

    def ssn(self, patient: Json) -> str | None:
        found = [
            one
            for one in _list(patient.get("identifier"))
            if one.get("system") == SSN_SYSTEM or _coded(one.get("type"), "SS")
        ]
        return _text(self._best(found, _ID_USES), "value")

    def birth_date(self, patient: Json) -> str | None:
        date = _text(patient, "birthDate")
        if date and len(date) in (4, 7):
            self._counts["birth dates without a day, left out"] += 1
            return None
        return date

    def _telecom(self, patient: Json, system: str) -> str | None:
        some = [one for one in _list(patient.get("telecom")) if one.get("system") == system]
        best = self._best(some, _TELECOM_USES, ranked=True)
        return _text(best, "value")

    def _record_id(self, patient: Json) -> str:
        if not self._system:
            return (_text(patient, "id") or "").strip()
        found = [
            one for one in _list(patient.get("identifier")) if one.get("system") == self._system
        ]
        best = self._best(found, _ID_USES)
        return (_text(best, "value") or "").strip()

    def _best(self, some: list[Json], uses: Uses, *, ranked: bool = False) -> Json:
        """Return the one in force, of the preferred use; of equals the first. {} if none."""
        best: Json = {}
        best_rank = (True, _LAST, _LAST)
        for one in some:
            use = one.get("use")
            at = uses.get(use if isinstance(use, str) else None)
            if at is not None:
                period = one.get("period")
                ended = period is not None and self._ended(period)
                rank = (ended, _rank(one.get("rank")) if ranked else 0, at)
                if rank < best_rank:
                    best, best_rank = one, rank
        return best

    def _ended(self, period: Any) -> bool:
        end = period.get("end") if isinstance(period, dict) else None
        return isinstance(end, str) and end[:10] < self._today[: len(end[:10])]

    def _count(self, patient: Json) -> None:
        if patient.get("active") is False:
            self._counts["Patients marked inactive"] += 1
        if patient.get("deceasedBoolean") is True or "deceasedDateTime" in patient:
            self._counts["Patients marked deceased"] += 1
        if any(link.get("type") == "replaced-by" for link in _list(patient.get("link"))):
            self._counts["Patients replaced by another (link)"] += 1


def _family(name: Json, reader: PatientReader) -> str | None:
    family = name.get("family")
    # DSTU2 had a list of family names.
    return " ".join(_texts(family)) if isinstance(family, list) else _text(name, "family")


def _given(name: Json, reader: PatientReader) -> str | None:
    return next(iter(_texts(name.get("given"))), None)


def _middle(name: Json, reader: PatientReader) -> str | None:
    return " ".join(_texts(name.get("given"))[1:]) or None


def _street(address: Json, reader: PatientReader) -> str | None:
    return next((line for line in _texts(address.get("line")) if line.strip()), None)


def _sex(patient: Json, reader: PatientReader) -> str | None:
    """Administrative gender, as other systems export it; birth sex where it says neither."""
    gender = _text(patient, "gender")
    birth_sex = _extension(patient, "birthsex").get("valueCode")
    if gender not in ("male", "female") and birth_sex in ("M", "F"):
        return str(birth_sex)
    return gender


def _category(name: str) -> Callable[[Json, PatientReader], str | None]:
    """Read the code of US Core race or ethnicity: the first OMB category."""

    def read(patient: Json, reader: PatientReader) -> str | None:
        for inner in _list(_extension(patient, name).get("extension")):
            if inner.get("url") == "ombCategory" and isinstance(inner.get("valueCoding"), dict):
                return _text(inner["valueCoding"], "code")
        return None

    return read


_READERS: dict[str, Callable[[Any, PatientReader], str | None]] = {
    "first_name": _given,
    "middle_name": _middle,
    "last_name": _family,
    "date_of_birth": lambda patient, reader: reader.birth_date(patient),
    "sex": _sex,
    "ssn": lambda patient, reader: reader.ssn(patient),
    "zip": lambda address, reader: _text(address, "postalCode"),
    "street": _street,
    "phone": lambda patient, reader: reader.phone(patient),
    "email": lambda patient, reader: reader.email(patient),
    "race": _category("race"),
    "ethnicity": _category("ethnicity"),
    "gender": lambda patient, reader: _text(patient, "gender"),
    "state": lambda address, reader: _text(address, "state"),
}
_PARTS = {
    **dict.fromkeys(("first_name", "middle_name", "last_name"), "name"),
    **dict.fromkeys(("zip", "street", "state"), "address"),
}
SUBGROUPS = ("race", "ethnicity", "gender", "state")
"""What a Patient can be counted by, besides its fields."""
FIELDS = tuple(one for one in _READERS if one not in SUBGROUPS)


def _extension(patient: Json, name: str) -> Json:
    url = _US_CORE + name
    return next((one for one in _list(patient.get("extension")) if one.get("url") == url), {})


def _coded(concept: Any, code: str) -> bool:
    coding = concept.get("coding") if isinstance(concept, dict) else None
    return any(one.get("code") == code for one in _list(coding))


def _list(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _text(value: Json, key: str) -> str | None:
    found = value.get(key)
    return found if isinstance(found, str) else None


def _rank(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < _LAST else _LAST - 1
