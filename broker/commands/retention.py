"""`linkage-broker retention`: what will be deleted by itself, and when."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from broker.console import HomeOption, JsonOption, services, show

if TYPE_CHECKING:
    from linkage.admin_messages import RetentionClock


def retention(home: HomeOption, as_json: JsonOption = False) -> None:
    """Show what retention rules will delete, and when; the worker does it. Deletes nothing."""
    found = services(home).retention
    lines = [_line(clock) for clock in found.clocks()]
    now = time.time()
    data = [asdict(due) | {"day": _day(due.at), "due": due.at <= now} for due in found.due()]
    nothing = "No retention rule runs on anything. [retention] of config.toml and of study files."
    show(as_json, data, "\n".join(lines) or nothing)


def _line(clock: RetentionClock) -> str:
    said = f"{clock.study_id}  {clock.rule}: {clock.things} run on this clock"
    said += f", {clock.due} due now" if clock.due else ""
    return said + (f", the next on {_day(clock.next_at)}" if clock.next_at else "")


def _day(at: int) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d}"
