"""
What the imaging party's answers and deliveries are made of, before sealing and after.

    answer    header || attrition || question IDs that fit, with their cells of study days
    delivery  attrition || cover manifest || rows, each subject's encrypted (linkage.delivery)

Parts are length-prefixed. An answer is as long for no fitting subject as for all of them, since
the broker sees how long the sealed message is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from linkage import idtables
from linkage.answer_cells import CELL_BYTES, decrypt_cell, encrypt_cell
from linkage.errors import PackageRefused
from linkage.pseudonyms import random_ids
from linkage.records import Bytes2D
from sites.cohort.attrition import Attrition, attrition_from_bytes
from sites.cohort.dates import is_cut, pack_days, unpack_days
from sites.cohort.manifest import cover_manifest_from_bytes
from sites.cohort.notices import UseNotice, notice_from_bytes, notice_to_bytes

_ANSWER_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class StudyDays:
    """
    The study days of an answer. cells: uint8[N, CELL_BYTES], encrypted, beside N question IDs.

    frame, index_event: what the days are (sites.cohort.dates), the same for all. cut: subjects of
    whom a cell holds the earliest days only.
    """

    cells: Bytes2D
    frame: str
    index_event: str | None = None
    cut: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """
    An opened answer. question_ids: uint8[N, 16]; IDs that nobody has are fillers. days: None where
    the question does not count days from the image.
    """

    attrition: Attrition
    question_ids: Bytes2D
    days: StudyDays | None = None


def encrypt_days(
    table: Mapping[str, Bytes2D],
    days: Sequence[Sequence[int]],
    *,
    frame: str,
    index_event: str | None = None,
) -> StudyDays:
    """
    Return the cells of N subjects that fit, each under its own answer key.

    table: columns question_id and answer_key of the N, as linkage.idtables.QUESTION_IDS. days: the
    study days of each.
    """
    cells = [
        encrypt_cell(key.tobytes(), name.tobytes(), pack_days(its))
        for name, key, its in zip(table["question_id"], table["answer_key"], days, strict=True)
    ]
    matrix = np.frombuffer(b"".join(cells), np.uint8).reshape(-1, CELL_BYTES)
    return StudyDays(matrix, frame, index_event, sum(map(is_cut, days)))


def read_days(answer: Answer, table: Mapping[str, Bytes2D]) -> dict[str, tuple[int, ...]]:
    """
    Return the study days by question ID, hex, of those of `table` that are in the answer.

    table: the enclave's own columns question_id and answer_key. A person with several fitting
    subjects has the days of all. Raises PackageRefused where a cell of an own person does not open,
    or there are no cells.
    """
    if answer.days is None:
        raise PackageRefused(
            "the question counts days from the image, and the answer has no days",
            hint="the imaging party answers with the version of the software that you run",
        )
    names, keys = table["question_id"], table["answer_key"]
    key_of = {n.tobytes(): k.tobytes() for n, k in zip(names, keys, strict=True)}
    found: dict[str, set[int]] = {}
    for one, cell in zip(answer.question_ids, answer.days.cells, strict=True):
        name = one.tobytes()
        if key := key_of.get(name):
            its = unpack_days(decrypt_cell(key, name, cell.tobytes()))
            found.setdefault(name.hex(), set()).update(its)
    return {name: tuple(sorted(days)) for name, days in found.items()}


def pack_answer(
    attrition: Attrition, question_ids: Bytes2D, *, size: int, days: StudyDays | None = None
) -> bytes:
    """
    Return an answer as one message. question_ids: uint8[N, 16], those that fit.

    Filled up to `size` rows with random ones, which are nobody's, and to whole blocks: the broker,
    which sees how long the sealed message is, must not learn how many qualify.
    """
    filled = np.concatenate([question_ids, random_ids(size - len(question_ids))])
    order = np.lexsort(filled.T)
    columns, widths = {"question_id": filled[order]}, idtables.QUALIFYING
    if days is not None:
        missing = size - len(days.cells)
        noise = np.frombuffer(os.urandom(missing * CELL_BYTES), np.uint8)
        cells = np.concatenate([days.cells, noise.reshape(missing, CELL_BYTES)])
        columns, widths = columns | {"days": cells[order]}, idtables.QUALIFYING_DAYS
    header = {
        "days": days is not None,
        "frame": days.frame if days else "",
        "index_event": days.index_event if days else None,
        "cut": days.cut if days else 0,
    }
    packed = _pack(_json(header), attrition.to_bytes(), idtables.pack(columns, widths))
    return packed.ljust(-(-len(packed) // _ANSWER_BLOCK) * _ANSWER_BLOCK, b"\0")


def unpack_answer(data: bytes) -> Answer:
    """Return what `pack_answer` packed. Raises PackageRefused for anything else."""
    head, attrition, ids = _unpack(data, 3)
    try:
        header = json.loads(head)
        dated, frame, event = bool(header["days"]), str(header["frame"]), header["index_event"]
        cut = int(header["cut"])
    except (ValueError, KeyError, TypeError):
        raise PackageRefused(
            "the imaging party's answer has no header",
            hint="both sides need the same software version",
        ) from None
    table = idtables.unpack(ids, idtables.QUALIFYING_DAYS if dated else idtables.QUALIFYING)
    said = str(event) if event is not None else None
    days = StudyDays(table["days"], frame, said, cut) if dated else None
    return Answer(attrition_from_bytes(attrition), table["question_id"], days)


def pack_delivery(
    attrition: Attrition, cover: bytes, bundle: bytes, notice: UseNotice | None = None
) -> bytes:
    """Return a delivery as one message. cover: b"" unless the study covers. notice: of use."""
    return _pack(attrition.to_bytes(), cover, bundle, notice_to_bytes(notice))


def unpack_delivery(data: bytes) -> tuple[Attrition, pa.Table | None, bytes, UseNotice | None]:
    """Return attrition, cover manifest (None unless the study covers), bundle of rows, notice."""
    attrition, cover, bundle, notice = _unpack(data, 4)
    made = cover_manifest_from_bytes(cover) if cover else None
    return attrition_from_bytes(attrition), made, bundle, notice_from_bytes(notice)


def _json(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _pack(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _unpack(data: bytes, count: int) -> list[bytes]:
    parts, at = [], 0
    for _ in range(count):
        end = at + 8 + int.from_bytes(data[at : at + 8], "big")
        if at + 8 > len(data) or end > len(data):
            raise PackageRefused("the imaging party's answer is truncated", hint="ask again")
        parts.append(data[at + 8 : end])
        at = end
    return parts
