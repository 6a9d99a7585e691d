"""What both ends say to each other about linkage runs (rules: linkage.messages)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from linkage.messages import Count, Hex256, Id, Message, Name


class RunRequest(Message):
    """
    Start a linkage run over the newest complete dataset version of every uploader. second_look:
    False leaves it out where the study allows one. precision: what is wanted of the links of each
    two parties, .5 to 1; None for the best F1. of: a finished run whose pairs are decided anew for
    that precision; seed, second_look, purpose and datasets are then those of that run. purpose: of
    those that the study declares, "" where it declares none or one.
    """

    seed: int = Field(default=1, ge=0, le=2**31)
    second_look: bool = True
    precision: float | None = Field(default=None, ge=0.5, le=1, allow_inf_nan=False)
    of: Id | None = None
    purpose: Name | Literal[""] = ""


class RunWork(Message):
    """
    How far the search for candidates is, as of the last chunk that ended.

    phase: the first of one, or of two; what the second has to do is known only after the first.
    All else is of this phase, but pairs_found, candidate pairs of two parties, which is of both.
    comparisons: of CLKs. seconds_left: None as long as nothing can be said.
    """

    phase: int = Field(ge=1, le=2)
    phases: int = Field(ge=1, le=2)
    chunks_done: int
    chunks: int
    pairs_found: int
    comparisons_done: int
    comparisons: int
    comparisons_per_second: float
    seconds_left: float | None = None


class RunBasis(Message):
    """
    What a run is made of. inputs: dataset version by uploader. asserted, opted_out: number of the
    assertion and the opt-out list that count, by uploader. reviewed: runs whose closed reviews
    count. second_look: may it ask one? software: version that it was asked of.
    """

    epoch: int
    seed: int
    inputs: dict[str, int]
    asserted: dict[str, int]
    opted_out: dict[str, int]
    reviewed: list[str]
    second_look: bool
    software: str


class RunState(Message):
    """
    state: queued, running, done, failed, cancelled. stage: open, candidates, rest, candidates of
    the rest, weights, second look, solve, identity. work: what the search for candidates has done,
    once the first chunk ended; for the admin only.

    progress: share of the stage that is done, 0 to 1. report: set when done, and never in a list of
    runs; numbers only, no pseudonym. failure: cause and remedy; a party is told only that it
    failed. precision, of: as the request had them. asked_at, ended_at: Unix seconds. These four
    and basis, too, for the admin only.
    """

    run_id: Id
    study_id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    stage: str = ""
    progress: float = Field(default=0.0, ge=0, le=1)
    seconds: dict[str, float] = Field(default_factory=dict)
    work: RunWork | None = None
    result_digest: str | None = None
    report: dict[str, Any] | None = None
    failure: str | None = None
    precision: float | None = None
    of: Id | None = None
    purpose: str = ""
    asked_at: int | None = None
    ended_at: int | None = None
    basis: RunBasis | None = None


class RunChange(Message):
    """What two runs are made of and differ in: a setting or an uploader's version, in words."""

    what: str
    first: str
    second: str


class ComparedFigure(Message):
    """
    A figure of two runs. about: "" all together; two uploaders, "a+b"; for persons the datasets
    that hold them, and no other does. None: the run has no such figure, for it did not compare the
    two, or linked nothing. Intervals: half of a 95 % interval. seconds: of all stages.
    """

    about: str
    figure: Literal[
        "persons", "candidates", "links", "precision", "recall", "link_threshold", "seconds"
    ]
    first: float | None = None
    second: float | None = None
    first_interval: float | None = None
    second_interval: float | None = None


class RunComparison(Message):
    """
    Two runs of a study that are done. same_persons: their result digests are equal. gained: links
    that only the second has; lost: that only the first has; None where they were not counted.
    Links within a dataset, of duplicates that a site grouped, count as well.
    """

    study_id: Name
    first: Id
    second: Id
    same_persons: bool
    made_of: list[RunChange]
    figures: list[ComparedFigure]
    gained: Count | None = None
    lost: Count | None = None


class ForecastDataset(Message):
    """
    What a run would take of an uploader. state: linked; missing; outdated: of an earlier epoch;
    quarantined; left out: its party takes no part, or its agreement has ended. dataset, records:
    of the version that would be linked. note: why not, or what is newer.
    """

    uploader: Name
    state: Literal["linked", "missing", "outdated", "quarantined", "left out"]
    dataset: int = 0
    records: Count = 0
    note: str = ""


class RunForecast(Message):
    """
    What a run would do, as of now. refusal: why none would start, with the remedy. same_run: the
    run that is there for the same already.

    comparisons: of CLKs, of the only or first phase; comparisons_second: of the second, at most.
    minutes, memory_mib: of one worker, by the rates of the study's last runs (measured_runs of
    them), else by docs/performance.md. wait_hours: that a second look may wait besides. reviews:
    closed reviews whose decisions count.
    """

    study_id: Name
    would_start: bool
    refusal: str = ""
    datasets: list[ForecastDataset]
    same_run: Id | None = None
    same_state: str | None = None
    phases: int = Field(ge=1, le=2)
    comparisons: int = Field(ge=0)
    comparisons_second: int = Field(ge=0)
    minutes: float
    memory_mib: int
    measured_runs: int
    second_look: bool
    wait_hours: float
    reviews: int


class LookState(Message):
    """
    What a run asks of one uploader in a second look. questions: how many. until: when the run goes
    on without an answer. digest, size: of the sealed questions. study_hash: of the signed study
    that the run is made under. dataset: the uploader's dataset version that the run is over, whose
    records are asked about. refusal: why the last answer was refused, and the remedy.

    state: asked; sent: an answer waits to be read; accepted; refused: another one may be sent;
    missed: the run went on without.
    """

    run_id: Id
    uploader: Name
    state: Literal["asked", "sent", "accepted", "refused", "missed"]
    questions: Count
    until: float
    digest: Hex256
    size: int
    study_hash: Hex256
    dataset: int = Field(ge=1, le=1_000_000)
    refusal: str = ""
