"""
The table [agent] of a site file: what a site answers by itself, what a person says yes to.

    [agent]
    questions = "ask"

    [[agent.purpose]]
    id = "care-quality"
    questions = "auto"

Rows never go without the steward's approval: no setting here can say otherwise. `portal` names the
people whose decisions in the broker's portal are approvals here: for them the broker's sign-in is
trusted, and nobody without it (ADR 31).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from linkage.messages import Name
from linkage.proposal_messages import DEFAULT_KINDS, KINDS, Kind
from linkage.strict_toml import Fault, FaultHere, Place, Strict
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
    once a person said yes; "refuse". small_counts: at the enclave, after so many questions of this
    epoch whose answer holds a small number, "auto" waits for a person, too.
    deliveries: "approved", once the steward approved; "refuse".
    cohorts: at the enclave, the folder in which cohorts are built; without it
    `linkage-site join` builds them. purpose: what differs for a purpose of the study. portal:
    accounts at the broker of people who decide and ask in its portal for this party; portal_kinds:
    what of it, "allow" and "deliver" only where they are named.
    """

    every: int = Field(default=60, ge=SHORTEST_S, le=LONGEST_S)
    second_looks: Answer = "auto"
    questions: Answer = "ask"
    small_counts: int = Field(default=5, ge=0, le=100_000)
    deliveries: Rows = "approved"
    cohorts: Place | None = None
    purpose: tuple[PurposeRule, ...] = Field(default=(), max_length=50)
    portal: tuple[Name, ...] = Field(default=(), max_length=50)
    portal_kinds: tuple[Kind, ...] = Field(
        default=DEFAULT_KINDS, min_length=1, max_length=len(KINDS)
    )

    @field_validator("purpose")
    @classmethod
    def _once(cls, value: tuple[PurposeRule, ...]) -> tuple[PurposeRule, ...]:
        named = [one.id for one in value]
        for one in named:
            if named.count(one) > 1:
                raise Fault(f"the purpose {one!r} comes twice", "keep one [[agent.purpose]] of it")
        return value

    @model_validator(mode="after")
    def _kinds_of_whom(self) -> Self:
        if "portal_kinds" in self.model_fields_set and not self.portal:
            raise FaultHere(
                "says what of the portal is carried out, and nobody is named",
                'name people with portal = ["ada"], or leave portal_kinds out',
                "portal_kinds",
            )
        return self

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
