"""What every re-identification attack answers: how many people it was right about."""

from __future__ import annotations

from dataclasses import dataclass

from linkage.errors import LinkageError


@dataclass(frozen=True, slots=True)
class Reidentified:
    """
    How many of `n` people, whom the attacker did not know before, were named rightly.

    n: people searched for, who are in the attacker's list; correct: of them, named rightly;
    known: people whom he knew beforehand, in neither number.

    Raises LinkageError if correct is not in 0 .. n.
    """

    n: int
    correct: int
    known: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.n or self.known < 0:
            raise LinkageError("an attack named more people than it searched for, or fewer than 0")

    @property
    def share(self) -> float:
        """The share of people named rightly, in [0, 1]; 0.0 if none was searched for."""
        return self.correct / self.n if self.n else 0.0

    def as_json(self) -> dict[str, int | float]:
        """Return the counts and their share."""
        return {
            "n": self.n,
            "correct": self.correct,
            "known": self.known,
            "share": round(self.share, 6),
        }
