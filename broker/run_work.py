"""How much there is to do for a chunk of a run, for its tasks, its progress and dry runs."""

from __future__ import annotations

from linkage.matching.planning import Chunk

KEY_COMPARISONS = 1_000
"""As many comparisons take as long as joining one key of one record: about a microsecond."""


def work_of(chunk: Chunk) -> int:
    """Return how much there is to do for a chunk, in comparisons of CLKs."""
    joined = sum(chunk.people) * len(chunk.keys) if chunk.kind == "keys" else 0
    return chunk.comparisons + joined * KEY_COMPARISONS
