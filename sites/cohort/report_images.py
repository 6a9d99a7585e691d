"""
What images a cohort has: modality, manufacturer, body part, year, slice thickness.

Everything is counted in persons, and every table puts each person into one group only: "CT only",
"several". Groups that overlap would tell by their sums how many have both. A year is told only
where the dates are true ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sites.cohort.disclosure import CellRule

MOST_GROUPS = 10
_ID = "image_occurrence_id"
SEVERAL, NOT_SAID, OTHER = "several", "not said", "others"
_THICKNESS = ((1.0, "1 mm or less"), (2.5, "over 1 to 2.5 mm"), (5.0, "over 2.5 to 5 mm"))
_STUDIES = ((1, "1"), (2, "2"), (4, "3 to 4"), (9, "5 to 9"))


def imaging_characteristics(folder: Path, rule: CellRule) -> list[dict[str, Any]]:
    """
    Return the tables of a delivered folder's images, each `name`, `note` and `groups` as shown.

    groups is None where the whole table would tell too much.
    """
    series = _read(
        folder / "omop" / "image_occurrence.parquet",
        *("person_id", "image_study_uid", "image_occurrence_date"),
    ).join(
        _read(
            folder / "side" / "image_series.parquet",
            *("modality", "manufacturer", "body_part", "slice_thickness"),
        ),
        _ID,
    )
    frames = _read(folder / "side" / "image_occurrence_provenance.parquet", "date_confidence")
    series = series.join(frames, _ID)
    persons = len(pc.unique(series["person_id"]))
    studies = _grouped(
        _distinct(series, "image_study_uid"), "person_id", "image_study_uid", "count"
    )
    thinnest = _grouped(series, "person_id", "slice_thickness", "min")
    bands = Counter(
        NOT_SAID if value is None else _band(value, _THICKNESS, "over 5 mm") for value in thinnest
    )
    return [
        _table("modality", _only(series, "modality", persons), rule),
        _table("manufacturer", _only(_tidy(series, "manufacturer"), "manufacturer", persons), rule),
        _table("body part", _only(_tidy(series, "body_part"), "body_part", persons), rule),
        _ordered(
            "studies a person",
            Counter(_band(count, _STUDIES, "10 or more") for count in studies),
            [*(name for _, name in _STUDIES), "10 or more"],
            rule,
        ),
        _ordered(
            "thinnest slice",
            bands,
            [*(name for _, name in _THICKNESS), "over 5 mm", NOT_SAID],
            rule,
        ),
        _years(series, persons, rule),
    ]


def _years(series: pa.Table, persons: int, rule: CellRule) -> dict[str, Any]:
    """Return the year of each person's first image whose date is exact; over ten years, bands."""
    title = "year of the first image"
    exact = series.filter(pc.starts_with(series["date_confidence"], "exact"))
    if not exact.num_rows:
        note = "the commons' dates are no true dates, so no year is told"
        return {"name": title, "note": note, "groups": None}
    years = Counter(
        day.year for day in _grouped(exact, "person_id", "image_occurrence_date", "min")
    )
    step = 1 if len(years) <= MOST_GROUPS else 5
    counted: Counter[str] = Counter()
    names = {}
    for year in sorted(years):
        low = year - year % step
        names[low] = f"{low}" if step == 1 else f"{low} to {low + step - 1}"
        counted[names[low]] += years[year]
    counted[NOT_SAID] = persons - sum(years.values())
    return _ordered(title, counted, [*names.values(), NOT_SAID], rule)


def _only(series: pa.Table, name: str, persons: int) -> Counter[str]:
    """Count one group a person: the only value there is, SEVERAL, or NOT_SAID."""
    said = _distinct(series, name).group_by("person_id")
    found = said.aggregate([(name, "count"), (name, "min")])
    one = found.filter(pc.equal(found[f"{name}_count"], 1))
    values = pc.value_counts(one[f"{name}_min"]).to_pylist()
    counted = Counter({f"{row['values']} only": row["counts"] for row in values})
    counted[SEVERAL] = found.num_rows - one.num_rows
    counted[NOT_SAID] = persons - found.num_rows
    return counted


def _distinct(series: pa.Table, name: str) -> pa.Table:
    """Return each person's values, each once."""
    said = series.select(["person_id", name]).filter(pc.is_valid(series[name]))
    return said.group_by(["person_id", name]).aggregate([])


def _grouped(table: pa.Table, by: str, name: str, how: str) -> list[Any]:
    """Return one number a group."""
    found: list[Any] = table.group_by(by).aggregate([(name, how)])[f"{name}_{how}"].to_pylist()
    return found


def _tidy(series: pa.Table, name: str) -> pa.Table:
    """Put a name's spellings together: case and spaces do not count."""
    found = series[name].combine_chunks().dictionary_encode()
    spelled = pc.utf8_upper(pc.utf8_trim_whitespace(found.dictionary))
    spelled = pc.replace_substring_regex(spelled, r"\s+", " ").take(found.indices)
    return series.set_column(series.column_names.index(name), name, spelled)


def _band(value: float, bands: Sequence[tuple[float, str]], above: str) -> str:
    return next((name for most, name in bands if value <= most), above)


def _table(name: str, counted: Counter[str], rule: CellRule) -> dict[str, Any]:
    """Order groups by size; those of too few persons, and beyond MOST_GROUPS, are OTHER."""
    last = {SEVERAL: 1, NOT_SAID: 2}
    order = sorted(counted, key=lambda one: (last.get(one, 0), -counted[one], one))
    # A name that few persons share is rare, and may tell who they are: it is not printed at all.
    common = [one for one in order if one not in last and not rule.small(counted[one])]
    kept = [*common[:MOST_GROUPS], *(one for one in order if one in last)]
    merged: Counter[str] = Counter()
    for one, count in counted.items():
        merged[one if one in kept else OTHER] += count
    return _ordered(name, merged, [*kept, OTHER], rule)


def _ordered(
    name: str, counted: Counter[str], groups: Sequence[str], rule: CellRule
) -> dict[str, Any]:
    shown = rule.show_table({one: counted[one] for one in groups})
    return {"name": name, "note": "", "groups": _present(shown, counted)}


def _present(shown: Mapping[str, Any] | None, counted: Mapping[str, int]) -> Any:
    """Leave out groups that nobody is in: which they are is no secret, zeros are shown."""
    return None if shown is None else {name: n for name, n in shown.items() if counted[name]}


def _read(path: Path, *columns: str) -> pa.Table:
    return pq.read_table(path, columns=[_ID, *columns])
