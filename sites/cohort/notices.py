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

TERMS_FILE = "USE_TERMS.txt"


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


def write_terms(folder: Path, notices: Mapping[str, UseNotice | None], *, purpose: str) -> None:
    """
    Write USE_TERMS.txt: for what the stewards approved the cohort, and what each commons asks.

    notices: by commons; None where it has given none.
    """
    parts = [
        "TERMS OF USE\n",
        "The stewards approved this cohort for the following purpose, and for no other.\n"
        "Commercial and non-commercial use are different purposes.\n",
        f"    {purpose}\n",
        *(_said(name, notice) for name, notice in notices.items()),
    ]
    (folder / TERMS_FILE).write_text("\n".join(parts), encoding="utf-8")


def _said(name: str, notice: UseNotice | None) -> str:
    if notice is None:
        return (
            f"{name} has given no terms of use. Ask its data manager before you publish, or use\n"
            "this cohort for profit.\n"
        )
    commercial = notice.commercial or "Not allowed: ask this commons before any such use."
    parts = [
        f"{notice.commons}\n{'-' * len(notice.commons)}",
        f"Acknowledge it in every publication:\n\n    {notice.acknowledgement}\n",
        f"Non-commercial use:\n\n    {notice.non_commercial}\n",
        f"Commercial use:\n\n    {commercial}\n",
    ]
    return "\n".join(parts + ([f"The terms are at {notice.url}\n"] if notice.url else []))
