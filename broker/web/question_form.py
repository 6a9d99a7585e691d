"""
The form of a cohort question and the TOML that it makes: the very file that `linkage-cohort` reads.

Nothing is judged here. What somebody typed goes into the text as it is, and the specification's own
parser says what is wrong with it; so the portal and the command refuse alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.web.concept_help import changed
from broker.web.forms import Form
from linkage.cohort.spec import CohortSpec, parse_spec
from linkage.cohort.spec_notes import of_criteria
from linkage.cohort.spec_words import PartyWords, parties_in_words
from linkage.errors import CohortRefused, LinkageError

MOST_ROWS = 50
KINDS: Mapping[str, tuple[str, ...]] = {
    "concept": (
        *("has", "domain", "name", "ids", "below", "not", "min", "max", "unit", "least"),
        *("when", "days", "find"),
    ),
    "feature": ("finding", "measurement", "min", "max", "unit", "algorithm"),
}
"""Rows that may come several times, with the fields of each."""

SINGLE = (
    *("title", "purpose", "use", "expires", "any_image", "modality", "body_part", "manufacturer"),
    *("manufacturer_model", "collection", "contrast", "thickness_min", "thickness_max"),
    *("kvp_min", "kvp_max", "series_min", "series_max", "studies_min", "studies_max", "study"),
    *("any_person", "age_min", "age_max", "age_at"),
)
_SEVERAL = re.compile(r"[,;\n]+")
_WHOLE = re.compile(r"-?\d{1,15}")
_DECIMAL = re.compile(r"-?\d{1,15}[.,]\d{1,15}")


@dataclass(frozen=True, slots=True)
class QuestionForm:
    """
    What somebody filled in. values: of single fields; rows: of each kind, a mapping a row; text: a
    specification typed or pasted instead, "" without.
    """

    values: Mapping[str, str]
    sexes: Sequence[str]
    rows: Mapping[str, Sequence[Mapping[str, str]]]
    text: str = ""

    @classmethod
    def of(cls, form: Form) -> QuestionForm:
        """Read a posted form; `act` may want a row more or less."""
        values = {name: form.get(name, ("",))[0] for name in SINGLE}
        act = form.get("act", ("",))[0]
        rows = {kind: _rows(form, kind, act) for kind in KINDS}
        rows["concept"] = changed(rows["concept"], act)
        return cls(values, form.get("sex", ()), rows, form.get("text", ("",))[0])

    @classmethod
    def empty(cls, text: str = "") -> QuestionForm:
        """Return the form as it begins."""
        blank: dict[str, Sequence[Mapping[str, str]]] = {kind: ({},) for kind in KINDS}
        return cls(dict.fromkeys(SINGLE, ""), (), blank, text)

    def value(self, name: str) -> str:
        """Return what a single field holds."""
        return self.values.get(name, "")

    def filled(self, kind: str) -> list[int]:
        """Return which rows of a kind are in the file, from 0: those that nobody filled are not."""
        lines = {"feature": _feature, "concept": _concept}[kind]
        return [at for at, row in enumerate(self.rows[kind]) if any(True for _ in lines(row))]

    @property
    def toml(self) -> str:
        """The specification's text."""
        return self.text.replace("\r\n", "\n") if self.text else "\n".join(_lines(self)) + "\n"


@dataclass(frozen=True, slots=True)
class Checked:
    """
    A specification that was read. spec: None where it is refused, with the reasons in faults;
    notes: what is allowed and may surprise; parties: what is asked of whom, in words.
    """

    text: str
    spec: CohortSpec | None = None
    faults: tuple[LinkageError, ...] = ()
    notes: tuple[str, ...] = ()
    parties: tuple[PartyWords, ...] = ()


def checked(text: str) -> Checked:
    """Read a specification; it opens no file."""
    try:
        name = "cohort.json" if text.lstrip().startswith("{") else "cohort.toml"
        spec = parse_spec(text, file=name, base=None)
    except CohortRefused as fault:
        return Checked(text, faults=(fault, *fault.others))
    except RecursionError:
        deep = CohortRefused(file="cohort.toml", line=0, key="", rule="is nested too deeply")
        return Checked(text, faults=(deep,))
    return Checked(text, spec, (), tuple(of_criteria(spec)), tuple(parties_in_words(spec)))


def _rows(form: Form, kind: str, act: str) -> tuple[Mapping[str, str], ...]:
    """Return the rows of a kind that were posted, one more or less where `act` says so."""
    found = []
    for number in range(MOST_ROWS):
        row = {
            field: form[f"{kind}-{number}-{field}"][0]
            for field in KINDS[kind]
            if f"{kind}-{number}-{field}" in form
        }
        if row and act != f"drop-{kind}-{number}":
            found.append(row)
    if act == f"more-{kind}" and len(found) < MOST_ROWS:
        found.append({})
    return tuple(found) or ({},)


def _lines(form: QuestionForm) -> Iterator[str]:
    yield "[cohort]"
    yield f"id = {_text(_id(form.value('title')))}"
    yield f"title = {_text(form.value('title'))}"
    yield f"purpose = {_text(' '.join(form.value('purpose').split()))}"
    if form.value("use") == "commercial":
        yield 'use = "commercial"'
    yield from ("", "[imaging]")
    yield from _imaging(form)
    for row in form.rows["feature"]:
        yield from _feature(row)
    clinical = list(_clinical(form))
    if clinical or not any(_ids(row) or row.get("domain") for row in form.rows["concept"]):
        yield from ("", "[clinical]")
        yield from clinical
    if age := list(_age(form)):
        yield from ("", "[clinical.age]", *age)
    for row in form.rows["concept"]:
        yield from _concept(row)


def _imaging(form: QuestionForm) -> Iterator[str]:
    if form.value("any_image"):
        yield "any = true"
    names = ("collection", "modality", "body_part", "manufacturer", "manufacturer_model")
    for name in names:
        if several := _several(form.value(name)):
            yield f"{name} = {_list(several)}"
    if form.value("contrast") in ("true", "false"):
        yield f"contrast = {form.value('contrast')}"
    for key, field in (
        ("slice_thickness", "thickness"),
        ("kvp", "kvp"),
        ("series_per_study", "series"),
        ("studies_per_subject", "studies"),
    ):
        yield from _range(key, form.value(f"{field}_min"), form.value(f"{field}_max"))
    if form.value("study") in ("first", "last"):
        yield f"study = {_text(form.value('study'))}"


def _feature(row: Mapping[str, str]) -> Iterator[str]:
    if not any(row.values()):
        return
    yield from ("", "[[imaging.features]]")
    for name in ("finding", "measurement"):
        if several := _several(row.get(name, "")):
            yield f"{name} = {_list(several)}"
    yield from _range("value", row.get("min", ""), row.get("max", ""))
    for name in ("unit", "algorithm"):
        if several := _several(row.get(name, "")):
            yield f"{name} = {_list(several)}"


def _clinical(form: QuestionForm) -> Iterator[str]:
    if form.value("any_person"):
        yield "any = true"
    if form.sexes:
        yield f"sex = {_list(form.sexes)}"


def _age(form: QuestionForm) -> Iterator[str]:
    low, high = form.value("age_min"), form.value("age_max")
    for key, value in (("min", low), ("max", high)):
        if value:
            yield f"{key} = {_number(value)}"
    if (low or high) and form.value("age_at") in ("", "imaging"):
        yield 'at = "imaging"'


def _concept(row: Mapping[str, str]) -> Iterator[str]:
    included, left_out = _ids(row), _codes(row.get("not", ""))
    # A domain alone is a row that nobody filled in: the first is chosen in each new row.
    if not included and not left_out and not row.get("name") and row.get("domain") != "death":
        return
    below = "true" if row.get("below", "yes") == "yes" else "false"
    yield from ("", "[[clinical.concepts]]", f"domain = {_text(row.get('domain', ''))}")
    if row.get("name"):
        yield f"name = {_text(row['name'])}"
    if left_out:
        yield "concept_set = ["
        for code in included:
            yield f"  {{ concept_id = {code}, descendants = {below} }},"
        for code in left_out:
            yield f"  {{ concept_id = {code}, descendants = true, exclude = true }},"
        yield "]"
    elif included:
        yield f"concept_id = [{', '.join(included)}]"
        if below == "false":
            yield "descendants = false"
    if row.get("has") == "no":
        yield "exclude = true"
    yield from _range("value", row.get("min", ""), row.get("max", ""))
    if unit := _codes(row.get("unit", "")):
        yield f"unit = [{', '.join(unit)}]"
    if row.get("least") not in (None, "", "1"):
        yield f"at_least = {_number(row['least'])}"
    yield from _days(row.get("when", ""), row.get("days", ""))


def _days(when: str, days: str) -> Iterator[str]:
    """Days from the image: after it, before it, or within so many of it."""
    number = _number(days) if days else ""
    if when == "after":
        yield f"days_from_imaging = {{ min = 1{f', max = {number}' if number else ''} }}"
    elif when == "before":
        least = f"min = {_number(f'-{days}')}, " if number else ""
        yield f"days_from_imaging = {{ {least}max = -1 }}"
    elif when == "within":
        number, minus = (number, _number(f"-{days}")) if number else ("0", "0")
        yield f"days_from_imaging = {{ min = {minus}, max = {number} }}"


def _range(key: str, low: str, high: str) -> Iterator[str]:
    bounds = [f"{name} = {_number(one)}" for name, one in (("min", low), ("max", high)) if one]
    if bounds:
        yield f"{key} = {{ {', '.join(bounds)} }}"


def _ids(row: Mapping[str, str]) -> list[str]:
    return _codes(row.get("ids", ""))


def _codes(text: str) -> list[str]:
    """Concept ids: numbers as they are; the parser refuses whatever else is there."""
    return [_number(one) for one in re.split(r"[\s,;]+", text) if one]


def _several(text: str) -> list[str]:
    return [one.strip() for one in _SEVERAL.split(text) if one.strip()]


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(_text(one) for one in texts)}]"


def _number(text: str) -> str:
    """A number as TOML writes it; any other text stays one, for the parser to refuse."""
    if _WHOLE.fullmatch(text):
        return str(int(text))
    if _DECIMAL.fullmatch(text):
        return repr(float(text.replace(",", ".")))
    return _text(text)


def _text(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's, which wants DEL escaped as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _id(title: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60].strip("-")
    return plain if len(plain) > 1 and plain[0].isalpha() else f"cohort-{plain}".strip("-")
