"""
What a broker and its admin say to each other about what is kept in a study (rules:
linkage.messages). Sizes are bytes, times Unix seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from linkage.messages import Count, Id, Message, Name

Size = Annotated[int, Field(ge=0, lt=2**53, strict=True)]
"""Of what is kept; more than a Count may be, and as much as canonical JSON carries."""


class QuotaUsage(Message):
    """
    What a party with its contributors, or under "" the whole study, keeps here and may keep. other:
    all but dataset versions. set_by_admin: else the quota is that of config.toml.
    """

    party: Name | Literal[""]
    datasets: Size
    other: Size
    quota: Size
    set_by_admin: bool


class QuotaSet(Message):
    """Setting a quota, of one party or under "" of the whole study; what is here stays."""

    party: Name | Literal[""] = ""
    bytes: Size


class DatasetKept(Message):
    """
    A dataset version. state: receiving, complete, quarantined, abandoned or withdrawn. checked_at:
    when the worker opened it, None where it has yet to. quarantine: why it cannot be linked.
    """

    uploader: Name
    dataset: int
    epoch: int
    state: str
    records: Count
    bytes: Size
    completed_at: int | None = None
    checked_at: int | None = None
    quarantine: str = ""


class StorageState(Message):
    """What is kept in a study: use and quotas, and of every uploader its newest versions."""

    study_id: Name
    usage: list[QuotaUsage]
    datasets: list[DatasetKept]


class AffectedState(Message):
    """
    A release, question or delivery of which records were withdrawn since it was made. withdrawn:
    how many, by party. since: when that was first seen. pins: what still uses it, by party.
    """

    id: Id
    kind: str
    run_id: Id
    made_at: int | None = None
    withdrawn: dict[str, int]
    since: dict[str, int]
    pins: dict[str, tuple[str, ...]]
