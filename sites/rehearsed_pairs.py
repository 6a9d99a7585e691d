"""
The pairs that a rehearsed run weighed, by record id, for `linkage evaluate`.

    save_pairs(people, run_id, out / "pairs.csv")

The rehearsal's own broker leaves them in its folder; a broker of a study that was signed for real
has no such file (broker.rehearsed). Like the IDs, the list says who is whom.
"""

from __future__ import annotations

import csv
from pathlib import Path

from linkage.errors import PackageRefused
from linkage.plain_arrow import read_stream
from sites.casemaps import newest
from sites.private_file import private_file
from sites.rehearsal import Actors

HEADER = ("left_party", "left_id", "right_party", "right_id", "probability")


def save_pairs(people: Actors, run_id: str, path: Path) -> None:
    """
    Write every pair of two parties that the run gave a probability of .0001 or more; `path` gets
    the columns of HEADER, and only its owner can read it.

    Raises PackageRefused where the broker left no such pairs.
    """
    study = people.signed.study
    names = {party: newest(session) for party, session in people.sessions.items()}
    party_of = {one: study.party_of_uploader(one).id for one in study.uploaders}
    left_by_broker = people.broker.home / "rehearsed" / f"{run_id}.arrow"
    try:
        _, batches = read_stream(left_by_broker.read_bytes())
    except (OSError, ValueError):
        raise PackageRefused(
            "the rehearsal's broker left no pairs of its run",
            hint="is linkage-broker of the version of linkage-site? install both anew",
        ) from None
    with private_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for batch in batches:
            columns = (batch.column(name).to_pylist() for name in batch.schema.names)
            for one, left, other, right, probability in zip(*columns, strict=True):
                parties = party_of[one], party_of[other]
                if parties[0] != parties[1]:  # else two contributors of one commons
                    ids = names[parties[0]][left], names[parties[1]][right]
                    writer.writerow([parties[0], ids[0], parties[1], ids[1], f"{probability:.6g}"])
