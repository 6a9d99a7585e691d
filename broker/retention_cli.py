"""`linkage-broker retention`: what will be deleted by itself, and when."""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from dataclasses import asdict

from broker.console import HomeOption, JsonOption, services, show


def retention(home: HomeOption, as_json: JsonOption = False) -> None:
    """Show what retention rules will delete, and when; the worker does it. Deletes nothing."""
    found = services(home).retention.due()
    now = time.time()
    by_rule: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for due in found:
        by_rule[due.study_id, due.rule].append((due.at, due.blobs))
    lines = []
    for (study_id, rule), dates in by_rule.items():
        ready = sum(at <= now for at, _ in dates)
        later = [at for at, _ in dates if at > now]
        said = f"{study_id}  {rule}: {len(dates)} run on this clock"
        said += f", {ready} due now" if ready else ""
        said += f", the next on {_day(min(later))}" if later else ""
        lines.append(said)
    data = [asdict(due) | {"day": _day(due.at), "due": due.at <= now} for due in found]
    nothing = "No retention rule runs on anything. [retention] of config.toml and of study files."
    show(as_json, data, "\n".join(lines) or nothing)


def _day(at: int) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d}"
