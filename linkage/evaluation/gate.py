"""
The release gate: what an attacker finds in a study's own encodings, measured.

    run = run_gate(study, crowd, people="simulated, seed 1", seed=1)
    run.certificate(date="2026-11-21", software="1.0").reasons(study)    # empty: it passes

The attacker holds the encodings, has the crowd in clear text as his list, and no study key. Each
CLK, and all CLKs of each party together, are measured under `draws` + 1 study keys:

1. the correlation of similarities under two keys, and with what the attacker expects;
2. attacks by who knows 5 % of the people (best_guess), and by who knows nobody (graph_matching);
3. what the first would find at the study's declared size (linkage.evaluation.prediction), with all
   epochs so far: similarities of E epochs have noise of their own each, so energies are E-fold.

Beside them: the same attack on CLKs without diffusion, which must work; the structure of match
keys; and CLKs and match keys together. No verdict is kept: linkage.certificate computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from linkage.certificate import GateCertificate, declared_size, study_shape
from linkage.encoding.keys import StudyKey
from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd, written_again
from linkage.evaluation.attacks.outcome import Reidentified
from linkage.evaluation.attacks.together import combined_attack
from linkage.evaluation.gate_evidence import (
    LEAST_CROWD,
    OWN_KEYS,
    Expected,
    Measured,
    Pieces,
    Progress,
    attack_plain,
    expectations,
)
from linkage.evaluation.gate_records import Structure, measure_structure
from linkage.schema import schema_hash
from linkage.study import StudyConfig


@dataclass(frozen=True, slots=True)
class GateRun:
    """All that was measured of a study; `people`: in words, who. records: 0 if not declared."""

    study: StudyConfig
    people: str
    n: int
    draws: int
    known_share: float
    seed: int
    records: int
    plain: tuple[tuple[str, Reidentified], ...]
    evidence: tuple[Measured, ...]
    structure: Structure
    combined: Reidentified

    @property
    def plain_reidentified(self) -> float:
        """Share found from the CLK without diffusion that shows least: the attack must work."""
        return min(found.share for _, found in self.plain)

    def certificate(self, *, date: str, software: str) -> GateCertificate:
        """Return what the custodian signs. date: YYYY-MM-DD."""
        header = self.study.study
        return GateCertificate(
            study_id=header.id,
            epoch=header.epoch,
            schema_hash=schema_hash(self.study),
            study_shape=study_shape(self.study),
            software=software,
            people=self.people,
            n=self.n,
            draws=self.draws,
            known_share=self.known_share,
            records=self.records,
            date=date,
            plain_reidentified=self.plain_reidentified,
            plain_n=min(found.n for _, found in self.plain),
            figures=tuple(one.figures for one in self.evidence),
            unique_by_structure=self.structure.share,
            structure_people=self.structure.people,
            combined_reidentified=self.combined.share,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the figures by name; shares in [0, 1], the worst of all evidence first."""
        return {
            "plain_reidentified": self.plain_reidentified,
            "hardened_reidentified": max(one.worst for one in self.evidence),
            "hardened_correlation": max(one.figures.correlation for one in self.evidence),
            "combined_reidentified": self.combined.share,
            "unique_by_structure": self.structure.share,
            "unique_by_structure_together": self.structure.together,
            "structure_people": self.structure.people,
            "n": self.n,
            "records": self.records,
            "evidence": [
                {
                    **one.figures.model_dump(mode="json"),
                    "people": one.people,
                    "blind": one.blind.share,
                    "relatives": round(one.relatives, 4),
                    "fit": [[fit.people, fit.predicted, fit.found] for fit in one.fit],
                    "curve": [list(point) for point in one.curve],
                }
                for one in self.evidence
            ],
        }


def run_gate(
    study: StudyConfig,
    crowd: Crowd,
    *,
    people: str,
    draws: int = 5,
    known_share: float = 0.05,
    seed: int = 1,
    thinned: float = 1.0,
    guesses: Sequence[Expected] | None = None,
    progress: Progress = lambda text, done: None,
) -> GateRun:
    """
    Measure a study on a crowd that holds all its fields.

    people: in words, who they are. thinned: how many relatives of a person there are for each one
    in the crowd, where it is a sample. guesses: expectations of the same crowd, made before.
    Raises LinkageError for a crowd too small or all alike, and for a study without diffusion.
    """
    if study.study.profile != "hardened":
        raise LinkageError(
            "plain CLKs fall to graph matching, which needs no measuring",
            hint="set profile = 'hardened'",
        )
    if draws < 1 or not 0 < known_share < 0.5:
        raise LinkageError("the gate needs a key draw, and an attacker who knows some people")
    if len(crowd) < LEAST_CROWD:
        raise LinkageError(
            f"{len(crowd):,} people are too few to measure anything",
            hint=f"give {LEAST_CROWD:,} or more; 4,000 is usual",
        )
    guesses = guesses or expectations(study, crowd, seed=seed, progress=progress)
    # They hold for any depth; the study says which.
    guesses = [replace(one, clk=clk) for one, clk in zip(guesses, study.clk, strict=True)]
    found = []
    for i, guess in enumerate(guesses):
        progress(f"{guess.clk.id}: without diffusion", 0.15 + 0.05 * i / len(guesses))
        found.append((guess.clk.id, attack_plain(study, guess, crowd)))
    records = declared_size(study) or 0
    pieces = Pieces.of(study, guesses)
    for draw in range(draws + 1):
        progress(f"key {draw + 1} of {draws + 1}", 0.2 + 0.4 * draw / (draws + 1))
        pieces.draw(study, crowd, known_share=known_share, seed=seed + draw)
    evidence = []
    for i, one in enumerate(pieces.all):
        progress(f"{one.evidence}: at larger sizes", 0.6 + 0.2 * i / len(pieces.all))
        evidence.append(
            one.measured(
                study,
                records or len(crowd),
                known_share=known_share,
                thinned=thinned,
                seed=seed,
            )
        )
    progress("match keys", 0.8)
    structure = measure_structure(study, seed=seed)
    progress("match keys and CLKs together", 0.95)
    combined = combined_attack(
        study,
        {
            party.id: written_again(crowd, desk=desk, seed=seed)
            for desk, party in enumerate(study.party)
        },
        crowd,
        StudyKey.generate(),
        known=round(known_share * len(crowd)),
        seed=seed,
        own_keys=OWN_KEYS,
    )
    progress("done", 1.0)
    return GateRun(
        study=study,
        people=people,
        n=len(crowd),
        draws=draws,
        known_share=known_share,
        seed=seed,
        records=records,
        plain=tuple(found),
        evidence=tuple(evidence),
        structure=structure,
        combined=combined,
    )
