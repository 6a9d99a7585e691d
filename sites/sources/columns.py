"""
Which column of a source holds which field: as the site file says, else by usual names.

An error shows column names only where at least two of them are known, for the first row of a
file without a header is a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from linkage.errors import SourceRefused
from sites.sources.config import ColumnsConfig
from sites.sources.names import fold, like_a_value, usual, usual_field

RECORD_ID = "record_id"


def find_columns(
    source: str,
    header: Sequence[str],
    config: ColumnsConfig,
    fields: Sequence[str],
    extra: Mapping[str, tuple[str, ...]],
) -> dict[str, int]:
    """
    Return the position, from 0, of record_id, of each field and of each extra column.

    Raises SourceRefused where one is not there, or could be several.
    """
    _require_header(source, header, config)
    given = {RECORD_ID: config.record_id or (), **config.columns, **extra}
    found = {
        name: _position(source, header, name, given.get(name, ()), name in extra)
        for name in (RECORD_ID, *fields, *extra)
    }
    _require_apart(source, found, extra)
    return found


def guessed(found: Mapping[str, int], header: Sequence[str], config: ColumnsConfig) -> list[str]:
    """Return a note for each column that was found by its usual name, for a person to check."""
    given = {*config.columns, *config.subgroups, *([RECORD_ID] if config.record_id else [])}
    return [
        f"{name}: column {at + 1}, {header[at].strip()!r}, by its usual name"
        for name, at in found.items()
        if name not in given and usual_field(header[at]) == name
    ]


def shown(header: Sequence[str]) -> list[str]:
    """Return the columns as a person may be shown them: one that looks like a value by number."""
    return [
        f"(column {i}, looks like {kind})" if (kind := like_a_value(one)) else one.strip()
        for i, one in enumerate(header, start=1)
    ]


def _position(
    source: str, header: Sequence[str], name: str, given: tuple[str, ...], is_extra: bool
) -> int:
    wanted = {fold(one) for one in given}
    at = (
        [i for i, one in enumerate(header) if fold(one) in wanted] if given else usual(name, header)
    )
    if len(at) == 1:
        return at[0]
    table, key = ("[source.subgroups]", name) if is_extra else ("[source.columns]", name)
    if name == RECORD_ID:
        table = "[source]"
    if at:
        raise SourceRefused(
            file=source,
            rule=f"has {len(at)} columns that could be {name}: columns "
            + " and ".join(str(i + 1) for i in at),
            hint=f'name the right one under {table}: {key} = "...", or drop the other'
            if not given
            else "give the exact name in the site file, or drop one from the export",
        )
    looked = f"looked for {', '.join(given)}" if given else "none has a usual name for it"
    names = ", ".join(shown(header))
    raise SourceRefused(
        file=source,
        rule=f"has no column for {name} ({looked})",
        hint=f'write {key} = "..." under {table}; the columns are: {names}',
    )


def _require_header(source: str, header: Sequence[str], config: ColumnsConfig) -> None:
    names = (config.record_id or (), *config.columns.values(), *config.subgroups.values())
    known = {fold(one) for some in names for one in some}
    hits = sum(fold(one) in known or bool(usual_field(one)) for one in header)
    if hits < 2:
        raise SourceRefused(
            file=source,
            rule=f"row 1 ({len(header)} columns) holds "
            + ("only one" if hits else "none")
            + " of the column names that the site file or common use gives",
            hint="row 1 must be the header; export it again with one, or correct [source.columns]",
        )


def _require_apart(
    source: str, found: Mapping[str, int], extra: Mapping[str, tuple[str, ...]]
) -> None:
    first: dict[int, str] = {}
    for name, at in found.items():
        if name in extra:
            continue
        if at in first and RECORD_ID not in (name, first[at]):
            raise SourceRefused(
                file=source,
                rule=f"column {at + 1} is given for both {first[at]} and {name}",
                hint="give each its own column under [source.columns]",
            )
        first.setdefault(at, name)
