"""The form that starts a run: what was asked for, as text, until it is a request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from broker.web.forms import Form
from linkage.errors import PackageRefused
from linkage.matching.estimates import check_precision
from linkage.run_messages import RunRequest

_ASKED = "asked"
"""A field of the form itself. Without it nothing was asked yet, and no box was unticked."""


@dataclass(frozen=True, slots=True)
class RunAsked:
    """What the form holds. of: the run whose pairs are to be decided anew, or ""."""

    precision: str = ""
    purpose: str = ""
    second_look: bool = True
    allow_missing: bool = False
    of: str = ""

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> RunAsked:
        """Read a query or a form."""
        asked = _ASKED in fields
        return cls(
            precision=fields.get("precision", "").replace(",", "."),
            purpose=fields.get("purpose", ""),
            second_look="second_look" in fields or not asked,
            allow_missing="allow_missing" in fields,
            of=fields.get("of", ""),
        )

    @classmethod
    def posted(cls, form: Form) -> RunAsked:
        """Read what was posted."""
        return cls.read({name: values[0] for name, values in form.items()})

    def request(self) -> RunRequest:
        """
        Return the request. Raises MatchingFailed for a precision that is none, PackageRefused for
        a run or a purpose that cannot be one.
        """
        precision = _number(self.precision)
        check_precision(precision)
        try:
            return RunRequest(
                precision=precision,
                purpose=self.purpose,
                second_look=self.second_look,
                of=self.of or None,
            )
        except ValidationError:
            raise PackageRefused(
                "the form names a run or a purpose that cannot be one", hint="open the page anew"
            ) from None


def _number(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return math.nan
