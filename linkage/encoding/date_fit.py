"""
Whether a source's dates of birth fit its date format: a wrong one would lose every link quietly.

Judged on counts by why-text over the whole source, so no value is needed, and none is shown.
"""

from __future__ import annotations

from collections.abc import Mapping

from linkage.encoding import dates, whys
from linkage.encoding.date_formats import in_tokens
from linkage.errors import EncodingRefused

MOST_EXCHANGED = 0.2
"""Share of dates that need a repair of their order, above which the format must be wrong."""
ENOUGH_TO_JUDGE = 20


def require_fit(tally: Mapping[str, int], format: str | None) -> None:
    """
    Raise EncodingRefused if `format` (strptime, None for ISO) does not fit a source.

    That is if, of 20 and more dates, above 20 % had to have day and month exchanged, or are
    plainly in another format, or have a year of two digits, or if none could be read at all.
    tally: number of records by why-text, "" included.
    """
    tokens = in_tokens(format or dates.ISO)
    kept = _sum(tally, ("", "repaired"))
    said = kept + _sum(tally, ("invalid",))
    if said < ENOUGH_TO_JUDGE:
        return
    if tally.get(whys.EXCHANGED, 0) > MOST_EXCHANGED * said:
        other = tokens.replace("MM", "\0").replace("DD", "MM").replace("\0", "DD")
        raise _misfit(tokens, f"day and month seem to be exchanged; try {other!r}")
    written = {one: tally.get(why, 0) for one, why in whys.OTHER_FORMATS.items()}
    written["YYYY-MM-DD"] += tally.get(whys.ISO_DATE, 0)
    likely = max(written, key=lambda one: written[one])
    if written[likely] > MOST_EXCHANGED * said:
        raise _misfit(tokens, f'they look like date_format = "{likely}"')
    if tally.get(whys.TWO_DIGIT_YEAR, 0) > MOST_EXCHANGED * said:
        raise _misfit(tokens, "years have two digits: add two_digit_years_until, or export four")
    if tally.get(whys.DAY_NUMBER, 0) > MOST_EXCHANGED * said:
        raise _misfit(tokens, "they are a spreadsheet's day numbers; export the column as dates")
    if tally.get(whys.NOT_A_FULL_DATE, 0) == said:
        raise _misfit(tokens, "they are years or months; only full dates can be linked")
    if not kept:
        raise EncodingRefused(
            f"no date of birth fits the format {tokens!r}",
            hint='correct date_format in the site file, e.g. "MM/DD/YYYY" or "YYYYMMDD"',
        )


def _sum(tally: Mapping[str, int], kinds: tuple[str, ...]) -> int:
    return sum(count for why, count in tally.items() if whys.kind_of(why) in kinds)


def _misfit(tokens: str, hint: str) -> EncodingRefused:
    rule = f"more than a fifth of the dates of birth do not fit the format {tokens!r}"
    return EncodingRefused(rule, hint=hint)
