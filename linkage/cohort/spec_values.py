"""What the two halves of a cohort specification are written with: lists of texts, ranges."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from linkage.strict_toml import Fault, Strict

LARGEST_DAYS = 40_000
"""Days from an image to an event that may be asked for: about 110 years."""


def as_list(value: Any) -> Any:
    """Return a lone text or number as a list of one; anything else as it is."""
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


def _texts(value: tuple[str, ...]) -> tuple[str, ...]:
    cleaned = {" ".join(text.split()) for text in value}
    if "" in cleaned:
        raise Fault("holds an empty text", "leave the whole key out to ask for any")
    return tuple(sorted(cleaned))


def _upper(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({text.upper() for text in _texts(value)}))


def _parts(value: tuple[str, ...]) -> tuple[str, ...]:
    if any(len(text) < 2 for text in value):
        raise Fault("a part of a name needs 2 letters or more", "write more of the name")
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(as_list), AfterValidator(_texts)]
"""One text or several, spaces made one, in order, each once."""
UpperTexts = Annotated[tuple[str, ...], BeforeValidator(as_list), AfterValidator(_upper)]
"""The same in capitals."""
NameParts = Annotated[UpperTexts, AfterValidator(_parts)]
"""Parts of a name, capitals, 2 letters or more each: the name contains any of them."""


def _as_table(value: Any) -> Any:
    """Refuse a lone number where a range is meant: nobody could tell which bound it is."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        shown = f"{value:g}" if isinstance(value, int | float) else "1"
        raise Fault(
            "needs bounds, not one value",
            f"write {{ min = {shown}, max = {shown} }} for exactly that, {{ max = {shown} }} for at"
            " most; both bounds are inclusive",
        )
    return value


class NumberRange(Strict):
    """Inclusive bounds; at least one is given."""

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _table(cls, value: Any) -> Any:
        return _as_table(value)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ordered(self.min, self.max)
        return self


class PositiveRange(NumberRange):
    """Inclusive bounds of a size or a count: none below zero."""

    min: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class CountRange(NumberRange):
    """Inclusive bounds of a number of things; at least one is given."""

    min: int | None = Field(default=None, ge=1, le=1_000_000)
    max: int | None = Field(default=None, ge=1, le=1_000_000)


class DayRange(NumberRange):
    """
    Inclusive bounds in days from an imaging study to a clinical event, at least one given.

    Below zero: the event came first. {min = 1}: after the image. {min = -30, max = 30}: within 30
    days of it.
    """

    min: int | None = Field(default=None, ge=-LARGEST_DAYS, le=LARGEST_DAYS)
    max: int | None = Field(default=None, ge=-LARGEST_DAYS, le=LARGEST_DAYS)

    @model_validator(mode="before")
    @classmethod
    def _table(cls, value: Any) -> Any:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            days = f"{abs(value):g}" if isinstance(value, int | float) else "30"
            raise Fault(
                "needs bounds, not one value",
                f"write {{ min = -{days}, max = {days} }} for within {days} days of the image,"
                f" {{ min = 1 }} for after it, {{ max = -1 }} for before it",
            )
        return value


def ordered(low: float | None, high: float | None) -> None:
    """Raises Fault where no bound is given, or the lower one is above the upper."""
    if low is None and high is None:
        raise Fault("has neither min nor max", "give at least one bound")
    if low is not None and high is not None and low > high:
        raise Fault("min is above max", "both bounds are inclusive; exchange them")


def something(any_at_all: bool, asked: bool, table: str, keys: str) -> None:
    """Raises Fault where a half asks nothing without saying so, or both."""
    if any_at_all and asked:
        raise Fault("any = true contradicts the other criteria", "drop one of them", table, "any")
    if not any_at_all and not asked:
        raise Fault("asks for nothing", f"add {keys}, or say any = true for all of them", table)
