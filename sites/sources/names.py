"""
The names that columns usually go by, for sites whose file does not say.

They come from exports of hospital systems, claims files, OMOP, FHIR flattenings and the headers
that OpenToken documents. Case, spaces, hyphens and underscores do not count, nor does a leading
"patient", "pt", "person", "member" or "subject". A name that could mean two fields is in none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "record_id": (
        "record_id", "id", "patient_id", "pat_id", "person_id", "member_id", "subject_id",
        "subject_key", "patient_key", "person_key", "record_key", "case_id", "case_submitter_id",
        "submitter_id", "patid", "mrn", "medical_record_number", "enterprise_id", "empi",
    ),
    "first_name": (
        "first_name", "first", "fname", "first_nm", "fst_nm", "given", "given_name", "forename",
        "name_first",
    ),
    "middle_name": (
        "middle_name", "middle", "mname", "middle_nm", "mid_nm", "middle_initial", "mi",
        "middle_init", "minit", "second_name", "name_middle",
    ),
    "last_name": (
        "last_name", "last", "lname", "last_nm", "lst_nm", "family", "family_name", "surname",
        "name_last",
    ),
    "date_of_birth": (
        "date_of_birth", "dob", "birth_date", "birth_dt", "birth_datetime", "bdate", "birthday",
        "born", "dateofbirth", "bene_birth_dt", "brth_dt",
    ),
    "sex": (
        "sex", "gender", "sex_cd", "gender_cd", "sex_code", "gender_code", "birth_sex",
        "sex_at_birth", "administrative_gender", "administrative_sex", "legal_sex",
    ),
    "ssn": (
        "ssn", "social_security_number", "social_security", "social_security_no", "soc_sec_no",
        "ssn9", "soc_sec_num",
    ),
    "zip": (
        "zip", "zip_code", "zip5", "zip_cd", "postal_code", "postal", "postcode", "zip_plus_4",
        "postal_cd",
    ),
    "phone": (
        "phone", "phone_number", "phone_no", "phone_num", "telephone", "telephone_number", "tel",
        "home_phone", "phone_home", "mobile", "mobile_phone", "cell", "cell_phone",
        "primary_phone", "contact_phone",
    ),
    "email": ("email", "e_mail", "email_address", "email_addr", "mail_address_electronic"),
    "street": (
        "street", "street_address", "address", "address_1", "address_line_1", "address_line1",
        "addr", "addr_1", "addr_line_1", "street_1", "street_line_1", "home_address",
        "residential_address", "line_1",
    ),
}  # fmt: skip
"""By field of the study, what its column may be called."""

_VALUES = (
    ("a date", r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}.*|\d{1,2}[-/. ](?:\d{1,2}|[a-z]{3,9})[-/. ]\d{2,4}"),
    ("an e-mail address", r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    ("a number", r"[+(]?\d[\d\s().\-]*"),
    ("an address", r"\d+[a-z]?\s+[a-z].*"),
)
_VALUE_SHAPES = [(kind, re.compile(shape, re.IGNORECASE)) for kind, shape in _VALUES]

_WHOSE = re.compile(r"^(patient|pat|pt|person|member|mbr|subject|subj)(?=.{2})")


def fold(name: str) -> str:
    """Return a column's name as it is compared."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


_FOLDED = {field: frozenset(map(fold, names)) for field, names in USUAL_NAMES.items()}


def usual_field(name: str) -> str:
    """Return the field that a column of this name usually holds, "" if that is not plain."""
    folded = fold(name)
    bare = _WHOSE.sub("", folded)
    for field, names in _FOLDED.items():
        if folded in names or (bare in names and field != "record_id"):
            return field
    return ""


def like_a_value(name: str) -> str:
    """Return what a cell of row 1 looks like if it is no name of a column ("a date"), else ""."""
    cell = name.strip()
    return next((kind for kind, shape in _VALUE_SHAPES if shape.fullmatch(cell)), "")


def usual(field: str, header: Iterable[str]) -> list[int]:
    """Return which columns of a header usually hold `field`, by position from 0."""
    return [at for at, name in enumerate(header) if usual_field(name) == field]
