"""
What each commons asks of those who use its data: how to thank it, and for what it may be used.

[imaging.use] and [omop.use] of a site file; the imaging party's travels sealed with its rows. In a
delivery: USE_TERMS.txt. Use for profit and use not for profit are two purposes, so they have two
texts; a commons without a text for the first does not allow it.

Light on purpose: site files are read without Arrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from linkage.errors import PackageRefused
from linkage.strict_toml import Strict
from linkage.uses import NON_COMMERCIAL, Use

TERMS_FILE = "USE_TERMS.txt"
_NOT_ALLOWED = "Not allowed: ask this commons before any such use."
_NOT_APPROVED = "Not approved: it needs a question of its own, and has other terms."


class UseNotice(Strict):
    """
    A table [imaging.use] or [omop.use].

    commons: its name as it wants to be called. acknowledgement: the words to put into a
    publication. non_commercial, commercial: what such use is bound to; no commercial: not allowed.
    url: where the terms are.
    """

    commons: str = Field(min_length=1, max_length=200)
    acknowledgement: str = Field(min_length=1, max_length=4000)
    non_commercial: str = Field(min_length=1, max_length=8000)
    commercial: str | None = Field(default=None, min_length=1, max_length=8000)
    url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")


def notice_to_bytes(notice: UseNotice | None) -> bytes:
    """Return a notice as it travels; empty where a commons has none."""
    return notice.model_dump_json().encode() if notice else b""


def notice_from_bytes(content: bytes) -> UseNotice | None:
    """Read what `notice_to_bytes` made. Raises PackageRefused for anything else."""
    if not content:
        return None
    try:
        return UseNotice.model_validate_json(content)
    except ValidationError:
        raise PackageRefused(
            "the imaging party's terms of use cannot be read",
            hint="both ends must run the same version; ask for the delivery again",
        ) from None


def write_terms(
    folder: Path, notices: Mapping[str, UseNotice | None], *, purpose: str, use: Use
) -> None:
    """
    Write USE_TERMS.txt: for what the stewards approved the cohort, and what each commons asks of
    that use; of the other one nothing is said that could be taken for a yes.

    notices: by commons; None where it has given none.
    """
    parts = [
        "TERMS OF USE\n",
        f"The stewards approved this cohort for {use} use, for the following purpose, and for no\n"
        "other. Commercial and non-commercial use are different purposes.\n",
        f"    {purpose}\n",
        *(_said(name, notice, use) for name, notice in notices.items()),
    ]
    (folder / TERMS_FILE).write_text("\n".join(parts), encoding="utf-8")


def _said(name: str, notice: UseNotice | None, use: Use) -> str:
    if notice is None:
        return (
            f"{name} has given no terms of use. Ask its data manager before you publish.\n"
            "Commercial use is not allowed.\n"
        )
    own, other = "Non-commercial", "Commercial"
    bound, also = notice.non_commercial, notice.commercial
    if use != NON_COMMERCIAL:
        # A cohort for such use is not made without this text (sites.terms).
        (own, other), (bound, also) = (other, own), (also or _NOT_ALLOWED, bound)
    parts = [
        f"{notice.commons}\n{'-' * len(notice.commons)}",
        f"Acknowledge it in every publication:\n\n    {notice.acknowledgement}\n",
        f"{own} use, as approved:\n\n    {bound}\n",
        f"{other} use:\n\n    {_NOT_APPROVED if also else _NOT_ALLOWED}\n",
    ]
    return "\n".join(parts + ([f"The terms are at {notice.url}\n"] if notice.url else []))
