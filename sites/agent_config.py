"""
The table [agent] of a site file: what a site answers by itself, what a person says yes to.

    [agent]
    questions = "ask"

    [[agent.purpose]]
    id = "care-quality"
    questions = "auto"

Rows never go without the steward's approval: no setting here can say otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from linkage.strict_toml import Fault, Place, Strict
from linkage.study import Identifier

Answer = Literal["auto", "ask", "refuse"]
Rows = Literal["approved", "refuse"]
SHORTEST_S, LONGEST_S = 5, 86_400


class PurposeRule(Strict):
    """One [[agent.purpose]]: what differs for one [[purpose]] of the study. None: as [agent]."""

    id: Identifier
    questions: Answer | None = None
    deliveries: Rows | None = None


class AgentConfig(Strict):
    """
    The table [agent].

    every: seconds between two looks at the broker. second_looks, questions: "auto", at once; "ask",
    once a person said yes; "refuse". deliveries: "approved", once the steward approved; "refuse".
    cohorts: at the enclave, the folder in which cohorts are built; without it
    `linkage-site join` builds them. purpose: what differs for a purpose of the study.
    """

    every: int = Field(default=60, ge=SHORTEST_S, le=LONGEST_S)
    second_looks: Answer = "auto"
    questions: Answer = "ask"
    deliveries: Rows = "approved"
    cohorts: Place | None = None
    purpose: tuple[PurposeRule, ...] = Field(default=(), max_length=50)

    @field_validator("purpose")
    @classmethod
    def _once(cls, value: tuple[PurposeRule, ...]) -> tuple[PurposeRule, ...]:
        named = [one.id for one in value]
        for one in named:
            if named.count(one) > 1:
                raise Fault(f"the purpose {one!r} comes twice", "keep one [[agent.purpose]] of it")
        return value

    def for_questions(self, purpose: str) -> Answer:
        """Return how questions of a purpose are answered; "": the study declares none."""
        found = next((one for one in self.purpose if one.id == purpose), None)
        return (found.questions if found else None) or self.questions

    def for_deliveries(self, purpose: str) -> Rows:
        """Return whether rows of a purpose go."""
        found = next((one for one in self.purpose if one.id == purpose), None)
        return (found.deliveries if found else None) or self.deliveries

    def folder_of(self, delivery_id: str) -> Path | None:
        """Return where the enclave builds the cohort of a delivery."""
        return self.cohorts / delivery_id if self.cohorts else None
