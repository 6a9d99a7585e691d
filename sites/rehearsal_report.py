"""
What a rehearsal found, for a person (`report.html`, terminal) and for a program (`report.json`).

    report = rehearse_and_report(plan, observer, truth=..., cohort=...)

`report.json` holds: study_id, records, persons, pairs_compared, candidates, link_threshold (the
lowest of the comparisons; each has its own under `comparisons`), estimated_precision,
estimated_recall, estimated_f1, warnings, release_gate, result_digest, seconds by stage; with a
truth file also precision, recall, f1 and `quality` by pair of parties; where sites were asked about
single pairs `second_look` (sites.rehearsed_looks); where the study names groups `strata`, as in the
run's report; with a cohort also `cohort`.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from linkage.cohort.spec import load_spec
from linkage.errors import SourceRefused
from linkage.evaluation.quality import Quality, score
from linkage.evaluation.quality_files import read_truth
from linkage.study import StudyConfig
from linkage.whole_file import write_whole
from sites import charts
from sites.rehearsal import Observer, RehearsalPlan, Rehearsed, actors, link, save_ids
from sites.rehearsed_cohort import RehearsedCohort, deliver_cohort
from sites.rehearsed_groups import groups_table
from sites.rehearsed_looks import looks_of, looks_summary, looks_table, unlooked_f1
from sites.rehearsed_pairs import save_pairs


@dataclass(frozen=True, slots=True)
class RehearsalReport:
    """Everything a rehearsal found. numbers: the content of report.json. html: its page."""

    numbers: dict[str, Any]
    out: Path

    def summary(self) -> dict[str, object]:
        """Return the few lines that a person wants to see first."""
        n = self.numbers
        rows: dict[str, object] = {
            "records": ", ".join(f"{party} {count:,}" for party, count in n["records"].items()),
            "persons": f"{n['persons']:,}",
            "estimated": f"precision {n['estimated_precision']:.4f},"
            f" recall {n['estimated_recall']:.4f} (found without truth)",
        }
        if "f1" in n:
            rows["against the truth"] = (
                f"precision {n['precision']:.4f}, recall {n['recall']:.4f}, F1 {n['f1']:.4f}"
            )
            for pair in n["quality"]["pairs"]:
                two = pair["left"], pair["right"]
                without = unlooked_f1(n.get("second_look"), frozenset(two))
                rows[f"  {' - '.join(two)}"] = f"F1 {pair['f1']:.4f}{without}"
        if "second_look" in n:
            rows["second look"] = looks_summary(n["second_look"])
        if "cohort" in n:
            rows["cohort"] = n["cohort"]["summary"]
            rows["cohort folder"] = n["cohort"]["folder"]
        rows["release gate"] = n["release_gate"]
        rows["time"] = f"{n['seconds']['total']:.0f} s"
        rows["IDs"] = self.out / "ids"
        rows["pairs"] = self.out / "pairs.csv"
        rows["report"] = self.out / "report.html"
        return rows


def rehearse_and_report(
    plan: RehearsalPlan,
    observer: Observer,
    *,
    truth: Path | None = None,
    cohort: Path | None = None,
) -> RehearsalReport:
    """
    Rehearse, write IDs and reports to `plan.out`, and return what was found.

    A truth file or cohort that cannot be read is refused before anything long begins.
    """
    if truth and not truth.is_file():
        raise SourceRefused(file=str(truth), rule="there is no such file", hint="check --truth")
    if cohort:
        load_spec(cohort)
    with actors(plan, observer) as people:
        rehearsed = link(people, compare_looks=truth is not None)
        save_ids(rehearsed, plan.out)
        save_pairs(people, rehearsed.run.run_id, plan.out / "pairs.csv")
        known = read_truth(truth, rehearsed.ids) if truth else None
        delivered = deliver_cohort(people, rehearsed, cohort, plan.out, known) if cohort else None
        study, gate = people.signed.study, people.signed.release_gate
    quality = score(rehearsed.ids, known) if known else None
    unlooked = rehearsed.unlooked
    without = score(unlooked.ids, known) if known and unlooked else None
    looks = looks_of(rehearsed.run.report or {}, quality, without)
    numbers = _numbers(study, rehearsed, quality, delivered) | {"release_gate": gate}
    numbers |= {"second_look": looks} if looks else {}
    write_whole(plan.out / "report.json", json.dumps(numbers, indent=1, default=str))
    write_whole(plan.out / "report.html", _page(study, rehearsed, numbers))
    return RehearsalReport(numbers, plan.out)


def _numbers(
    study: StudyConfig,
    rehearsed: Rehearsed,
    quality: Quality | None,
    delivered: RehearsedCohort | None,
) -> dict[str, Any]:
    found = rehearsed.run.report or {}
    chosen = found["overall"]["chosen"]
    comparisons = [{"parties": one["parties"], **one["estimate"]} for one in found["comparisons"]]
    seconds = rehearsed.seconds
    whole = [spent for stage, spent in seconds.items() if not stage.startswith("run: ")]
    numbers: dict[str, Any] = {
        "study_id": study.study.id,
        "rehearsal": True,
        "records": {party: len(ids) for party, ids in rehearsed.ids.items()},
        "persons": len(_holders(rehearsed)),
        "pairs_compared": found["pairs_compared"],
        "candidates": found["candidates"],
        "link_threshold": min((c["link_threshold"] for c in comparisons), default=1.0),
        "estimated_precision": chosen["precision"],
        "estimated_recall": chosen["recall"],
        "estimated_f1": chosen["f1"],
        "comparisons": comparisons,
        "histogram": found["overall"]["histogram"],
        "warnings": found["warnings"],
        "strata": found.get("strata"),
        "result_digest": rehearsed.run.result_digest,
        "seconds": {**seconds, "total": round(sum(whole), 3)},
    }
    if quality:
        overall = quality.overall
        numbers |= {"precision": overall.precision, "recall": overall.recall, "f1": overall.f1}
        numbers["quality"] = quality.as_json()
    if delivered:
        numbers["cohort"] = delivered.as_json()
    return numbers


def _page(study: StudyConfig, rehearsed: Rehearsed, numbers: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("sites"), autoescape=True, undefined=StrictUndefined
    )
    thresholds = [one["link_threshold"] for one in numbers["comparisons"]]
    bins = numbers["histogram"]
    edges = [i / len(bins) for i in range(len(bins) + 1)]
    return environment.get_template("rehearsal.html.j2").render(
        title=study.study.title,
        purpose=study.study.purpose,
        study_id=study.study.id,
        made_at=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=importlib.metadata.version("commons-linkage"),
        release_gate=numbers["release_gate"],
        warnings=numbers["warnings"],
        tiles=_tiles(numbers),
        histogram=charts.histogram(edges, bins, thresholds),
        pairs=_pair_table(numbers),
        overlap=charts.overlap(_holders(rehearsed)),
        parties=_party_table(rehearsed),
        groups=groups_table(numbers["strata"]),
        looks=looks_table(numbers["second_look"]) if "second_look" in numbers else None,
        cohort=numbers.get("cohort", {}).get("table"),
        seconds=list(numbers["seconds"].items()),
    )


def _tiles(numbers: dict[str, Any]) -> list[dict[str, str]]:
    tiles = [
        (f"{sum(numbers['records'].values()):,}", "records"),
        (f"{numbers['persons']:,}", "persons found"),
        (f"{numbers['estimated_precision']:.4f}", "estimated precision"),
        (f"{numbers['estimated_recall']:.4f}", "estimated recall"),
    ]
    if "f1" in numbers:
        tiles += [
            (f"{numbers['precision']:.4f}", "true precision"),
            (f"{numbers['recall']:.4f}", "true recall"),
            (f"{numbers['f1']:.4f}", "true F1"),
        ]
    return [{"value": value, "label": label} for value, label in tiles]


def _pair_table(numbers: dict[str, Any]) -> dict[str, Any]:
    columns = ["parties", "links", "threshold", "est. precision", "est. recall"]
    scored = {
        frozenset((pair["left"], pair["right"])): pair
        for pair in numbers.get("quality", {}).get("pairs", [])
    }
    if scored:
        columns += ["precision", "recall", "F1", "false", "missed"]
    rows = []
    for one in numbers["comparisons"]:
        chosen = one["chosen"]
        row = [
            " - ".join(one["parties"]),
            f"{chosen['links']:,}",
            f"{one['link_threshold']:.3f}",
            f"{chosen['precision']:.4f} ± {chosen['precision_interval']:.4f}",
            f"{chosen['recall']:.4f} ± {chosen['recall_interval']:.4f}",
        ]
        if pair := scored.get(frozenset(one["parties"])):
            row += [f"{pair[key]:.4f}" for key in ("precision", "recall", "f1")]
            row += [f"{pair[key]:,}" for key in ("false", "missed")]
        # A truth has a column a party; two contributors' comparison has none of its own.
        rows.append(row + [""] * (len(columns) - len(row)))
    note = (
        "Thresholds are chosen by the program for the best estimated F1; pairs at or above"
        " them link. Estimates use no truth."
    )
    if scored:
        note += " The truth file only scored."
    return {"columns": columns, "rows": rows, "note": note}


def _party_table(rehearsed: Rehearsed) -> dict[str, Any]:
    columns = ["party", "records", "duplicates grouped", "records left out", "values nulled"]
    rows = [
        [
            party,
            f"{done.records:,}",
            f"{done.records - done.groups:,}",
            f"{sum(done.left_out.values()):,}",
            "; ".join(f"{field} {n:,}" for field, n in done.nulled.items()),
        ]
        for party, done in rehearsed.tokenized.items()
    ]
    return {"columns": columns, "rows": rows}


def _holders(rehearsed: Rehearsed) -> dict[str, frozenset[str]]:
    held: dict[str, set[str]] = defaultdict(set)
    for party, ids in rehearsed.ids.items():
        for person in ids.values():
            held[person].add(party)
    return {person: frozenset(parties) for person, parties in held.items()}
