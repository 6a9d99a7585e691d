"""An observer of rehearsals that shows nothing."""

from __future__ import annotations


class Silent:
    """Nobody watches."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def progress(self, share: float) -> None:
        """A share of it is done."""
