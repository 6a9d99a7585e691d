"""Which tables of counts an enclave gives: the table [counts] of its site file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from linkage.strict_toml import Fault, Strict

Variable = Literal["sex", "age", "race", "ethnicity"]


class CountsConfig(Strict):
    """
    The table [counts]. variables: one-way tables that go with the count of a question, of large
    cohorts only; [] for none. How counts are shown is the study's to say (linkage.study).
    """

    variables: tuple[Variable, ...] = Field(default=("sex", "age"))

    @field_validator("variables")
    @classmethod
    def _once(cls, value: tuple[Variable, ...]) -> tuple[Variable, ...]:
        for i, one in enumerate(value):
            if one in value[:i]:
                raise Fault(f"the variable {one!r} is named twice", "name it once")
        return value
