"""
Case maps: which record pseudonym is which case of the commons.

A commons that holds no identifiers has contributors (hospitals) tokenize for it, under the commons'
own case ids. Each contributor seals its map to the commons, chunk by chunk, through the broker,
which cannot open it. The commons keeps what it received encrypted (sites.vault), and puts together
the versions that a release, a question or a delivery is about.

    send(session, dataset)            at a contributor, with every submitted dataset version
    covering(session, pseudonyms)     record id by pseudonym, at any party
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from linkage.case_map_names import MOST_CHUNKS, case_map_subject, read_case_map_subject
from linkage.errors import Conflict, NotFound, PackageRefused
from linkage.messages import (
    CASE_MAP,
    PART_BYTES,
    SealedItem,
)
from linkage.plain_arrow import read_stream
from linkage.records import Bytes2D
from linkage.sealing import Context, unseal
from sites.session import Session
from sites.vault import Vault

CHUNK_BYTES = PART_BYTES - 64 * 1024
"""Of pseudonyms and record ids; the rest is for Arrow's framing."""

_ROW_BYTES = 16 + 4
_SCHEMA = pa.schema(
    [
        pa.field("record_pseudonym", pa.binary(16), nullable=False),
        pa.field("record_id", pa.string(), nullable=False),
    ]
)
_INDEX = "case-maps/index"
Names = dict[bytes, str]
"""Record id by record pseudonym."""


@dataclass(frozen=True, slots=True)
class Received:
    """A complete case map that is kept here: whose, of which dataset version, its chunks."""

    contributor: str
    dataset: int
    chunks: int


def send(
    session: Session, dataset: int, progress: Callable[[int, int], None] = lambda done, n: None
) -> int:
    """
    Send the map of a dataset version to the commons; return how many chunks it has.

    What was sent before is not sent again. progress: called with chunks sent and chunks in all.
    Raises PackageRefused for a map too large for its chunks, and what the broker refuses.
    """
    mark = f"case-maps/sent-{dataset}"
    sizes = sum(1 for _ in _chunks(session.vault, dataset))
    if sizes > MOST_CHUNKS:
        raise PackageRefused(
            f"the case map has {sizes:,} chunks, more than {MOST_CHUNKS:,}",
            hint="record ids are far longer than case ids should be; shorten them",
        )
    if session.vault.kept(mark) is not None:
        return sizes
    for number, data in enumerate(_chunks(session.vault, dataset), start=1):
        # A chunk that arrived before an interruption looks different now, for it is sealed anew.
        with suppress(Conflict):
            session.send(session.party, CASE_MAP, case_map_subject(dataset, number, sizes), data)
        progress(number, sizes)
    session.vault.keep(mark, str(sizes).encode())
    return sizes


def covering(session: Session, pseudonyms: Bytes2D) -> Names:
    """
    Return the record id of each of `pseudonyms` (uint8[N, 16]), and perhaps of further ones.

    A party that tokenizes itself answers from its newest map that names them all. A commons
    fetches its contributors' maps and takes from each the version that these pseudonyms came from.
    Raises NotFound where a map has not arrived, PackageRefused where the one that is missed cannot
    be read, or two contributors use one case id.
    """
    contributors = session.signed.study.party_named(session.party).contributors
    wanted = {one.tobytes() for one in pseudonyms}
    if not contributors:
        return _own(session.vault, wanted)
    versions, unread = _versions(session)
    chosen: dict[str, Names] = {}
    for contributor in contributors:
        for one in versions[contributor]:
            names = _load(session.vault, one)
            if names.keys() <= wanted and len(names) > len(chosen.get(contributor, {})):
                chosen[contributor] = names
    merged = _merged(chosen)
    if nameless := len(wanted) - len(merged):
        for contributor, (_, fault) in unread.items():
            if contributor not in chosen:
                raise fault
        silent = [one for one in contributors if one not in chosen]
        raise NotFound(
            f"no case map names {nameless:,} of the {len(wanted):,} records; none fits of:"
            f" {', '.join(silent) or 'nobody'}",
            hint="ask these contributors to run `linkage-site submit` again, then try again",
        )
    return merged


def newest(session: Session) -> Names:
    """
    Return the record id of every record of the newest dataset versions of this party.

    Raises NotFound where a contributor's map has not arrived, PackageRefused as `covering` does.
    """
    contributors = session.signed.study.party_named(session.party).contributors
    if not contributors:
        return session.vault.load_map(session.vault.newest_dataset())
    versions, unread = _versions(session)
    for contributor, (dataset, fault) in unread.items():
        if not versions[contributor] or dataset > versions[contributor][0].dataset:
            raise fault
    if silent := [one for one in contributors if not versions[one]]:
        raise NotFound(
            f"no case map has come from: {', '.join(silent)}",
            hint="ask them to run `linkage-site submit` again",
        )
    return _merged({one: _load(session.vault, versions[one][0]) for one in contributors})


def receive(session: Session) -> tuple[list[Received], dict[Received, PackageRefused]]:
    """
    Fetch what the contributors sent and is not here yet; return all that is here, newest first,
    and why others cannot be read.

    A map that does not open (it may be of an epoch with other keys) or is malformed stays with the
    broker and must not keep the later ones away. One of which chunks are still to come is left for
    the next time.
    """
    here = _index(session.vault)
    coming: dict[Received, dict[int, SealedItem]] = defaultdict(dict)
    contributors = session.signed.study.party_named(session.party).contributors
    for item in session.broker.inbox(session.study_id, purpose=CASE_MAP):
        dataset, chunk, chunks = read_case_map_subject(item.subject)
        found = Received(item.sender, dataset, chunks)
        if item.sender in contributors and found not in here:
            coming[found][chunk] = item
    unread: dict[Received, PackageRefused] = {}
    for found, items in coming.items():
        if len(items) == found.chunks:
            try:
                for chunk, item in items.items():
                    session.vault.keep(_name(found, chunk), _opened(session, found, item))
            except PackageRefused as fault:
                unread[found] = fault
                continue
            here.append(found)
            plain = [[one.contributor, one.dataset, one.chunks] for one in here]
            session.vault.keep(_INDEX, json.dumps(plain).encode())
    return sorted(here, key=lambda one: (one.contributor, -one.dataset)), unread


def _versions(
    session: Session,
) -> tuple[dict[str, list[Received]], dict[str, tuple[int, PackageRefused]]]:
    """
    Return by contributor what was received of it, newest first; and its newest dataset version
    whose map cannot be read, with the reason.
    """
    here, refused = receive(session)
    found: dict[str, list[Received]] = defaultdict(list)
    for one in here:
        found[one.contributor].append(one)
    unread: dict[str, tuple[int, PackageRefused]] = {}
    for one, fault in refused.items():
        if one.dataset > unread.get(one.contributor, (0, fault))[0]:
            unread[one.contributor] = one.dataset, fault
    return found, unread


def _own(vault: Vault, wanted: set[bytes]) -> Names:
    """Return the newest map of this party that names all `wanted`, else its newest."""
    newest = vault.newest_dataset()
    for dataset in range(newest, 0, -1):
        if vault.map_folder(dataset).exists():
            names = vault.load_map(dataset)
            if wanted <= names.keys():
                return names
    return vault.load_map(newest)


def _merged(maps: dict[str, Names]) -> Names:
    merged: Names = {}
    owner: dict[str, str] = {}
    for contributor, names in maps.items():
        for pseudonym, record_id in names.items():
            if owner.setdefault(record_id, contributor) != contributor:
                raise PackageRefused(
                    f"{owner[record_id]!r} and {contributor!r} both use a case id: one of them has"
                    " not the commons' case ids",
                    hint="both compare their record ids with the cases that they handed in; who is"
                    " wrong corrects record_id in the site file, tokenizes and submits again",
                )
            merged[pseudonym] = record_id
    return merged


def _chunks(vault: Vault, dataset: int) -> Iterator[bytes]:
    """Yield a map in tables of at most CHUNK_BYTES, the same at every call."""
    names: list[bytes] = []
    record_ids: list[str] = []
    size = 0
    for pseudonyms, ids in vault.map_chunks(dataset):
        for pseudonym, record_id in zip(pseudonyms, ids, strict=True):
            row = _ROW_BYTES + len(record_id.encode())
            if names and size + row > CHUNK_BYTES:
                yield _packed(names, record_ids)
                names, record_ids, size = [], [], 0
            names.append(pseudonym.tobytes())
            record_ids.append(record_id)
            size += row
    if names:
        yield _packed(names, record_ids)


def _packed(names: list[bytes], record_ids: list[str]) -> bytes:
    columns = [pa.array(names, pa.binary(16)), pa.array(record_ids, pa.string())]
    batch = pa.record_batch(columns, schema=_SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _opened(session: Session, found: Received, item: SealedItem) -> bytes:
    context = Context(session.study_id, found.contributor, session.party, CASE_MAP, (item.subject,))
    data = unseal(
        session.broker.fetch(session.study_id, item),
        sender=session.signed.pin(found.contributor),
        recipient=session.identity,
        context=context,
    )
    try:
        schema, _ = read_stream(data)
        if not schema.equals(_SCHEMA):
            raise ValueError
    except ValueError:
        raise PackageRefused(
            f"the case map of {found.contributor!r}, dataset version {found.dataset}, is malformed",
            hint="it submits the next dataset version with the current software",
        ) from None
    return data


def _load(vault: Vault, one: Received) -> Names:
    names: Names = {}
    for chunk in range(1, one.chunks + 1):
        data = vault.kept(_name(one, chunk))
        if data is None:
            raise NotFound(
                f"a chunk of the case map of {one.contributor!r} is missing here",
                hint="restore the private folder from your backup",
            )
        _, batches = read_stream(data)
        for batch in batches:
            pairs = zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
            names.update(pairs)
    return names


def _index(vault: Vault) -> list[Received]:
    kept = vault.kept(_INDEX)
    return [Received(*one) for one in json.loads(kept)] if kept else []


def _name(one: Received, chunk: int) -> str:
    return f"case-maps/{one.contributor}/{one.dataset}/{chunk}"
