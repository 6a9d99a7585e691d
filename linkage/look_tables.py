"""
What travels in a second look: questions to a site, and its answers. No identifier, no key.

Questions, one row each (an Arrow record batch, `question_schema`):
    nonce               16 bytes, of this pair alone; both sites get the same
    record_pseudonym    16 bytes, the site's own record
    partner             the uploader whose record is the other half of the pair
    partner_tag         16 bytes, see `partner_tag`: the other record, under this nonce
Answers (`answer_schema`): the nonce, and for each field of the study a nullable filter of
FILTER_BYTES. A field is null where the record lacks it or the partner's party does not hold it.
A question may stay unanswered; nothing else may come.

The key of a filter depends on the nonce and on the tags of **both** records (linkage.encoding.
field_filters), so whatever a dishonest broker asks, two filters compare only if they were asked
for as one pair.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused
from linkage.records import PSEUDONYM_BYTES, Bytes2D, FixedColumn
from linkage.study import FIELDS, StudyConfig

NONCE_BYTES = 16
TAG_BYTES = 16
FILTER_BITS = 1024
FILTER_BYTES = FILTER_BITS // 8
BITS_SET = 64
"""Set bits of every filter, whatever its value's length: the number tells nothing."""

_TAG_LABEL = b"commons-linkage/second-look/partner/v1"
_AGAIN = "ask again; if it stays, the programs of the broker and the site differ"


def partner_tag(nonce: bytes, pseudonym: bytes) -> bytes:
    """
    Return what stands for a record at the other site: HMAC-SHA-256 under the nonce, 16 bytes.

    Pseudonyms are 16 random-looking bytes, so it tells the other site nothing, not even whether
    two questions are about one record.
    """
    return hmac.digest(nonce, _TAG_LABEL + pseudonym, "sha256")[:TAG_BYTES]


def fields_between(
    study: StudyConfig, one: str, other: str, enabled: Collection[str] = FIELDS
) -> tuple[str, ...]:
    """
    Return the enabled fields that two uploaders' parties both hold, in the order of FIELDS.

    Raises StudyRefused for a name that uploads nothing.
    """
    held = [set(study.party_of_uploader(name).fields) for name in (one, other)]
    return tuple(f for f in FIELDS if f in enabled and all(f in fields for fields in held))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Questions:
    """
    What one site is asked, Q rows in random order. party: the uploader who is asked.

    nonces, pseudonyms, tags: uint8[Q, 16]. partners: Q uploaders.
    Raises EncodingRefused for another width or length, a nonce that comes twice, or a record
    asked about together with a record of the same uploader.
    """

    party: str
    nonces: Bytes2D
    pseudonyms: Bytes2D
    partners: tuple[str, ...]
    tags: Bytes2D

    def __post_init__(self) -> None:
        shape = (len(self.partners), NONCE_BYTES)
        if any(one.shape != shape for one in (self.nonces, self.pseudonyms, self.tags)):
            raise EncodingRefused("the columns of the questions differ in length or width")
        if len(set(names_of(self.nonces))) != len(self.nonces):
            raise EncodingRefused("a nonce comes twice among the questions", hint=_AGAIN)
        if self.party in self.partners:
            raise EncodingRefused(
                f"{self.party!r} is asked to compare its own records with each other",
                hint="a second look is about records of two uploaders",
            )

    def __len__(self) -> int:
        return len(self.partners)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answers:
    """
    What one site answered, A rows in any order.

    nonces: uint8[A, 16], each once. filters: by field, A filters of FILTER_BYTES, some null.
    chance: by field, float64[4]: of random pairs of the site's own records that both have it, the
    shares that differ, are alike, close, equal (linkage.matching.second_look.Level). Sites do
    not say it yet: it is empty.
    """

    party: str
    nonces: Bytes2D
    filters: dict[str, FixedColumn]
    chance: Mapping[str, npt.NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.nonces)


def names_of(rows: Bytes2D) -> list[bytes]:
    """Return each row's bytes."""
    return [row.tobytes() for row in rows]


def question_schema() -> pa.Schema:
    """Return the Arrow schema of questions, the same for every site."""
    return pa.schema(
        [
            pa.field("nonce", pa.binary(NONCE_BYTES), nullable=False),
            pa.field("record_pseudonym", pa.binary(PSEUDONYM_BYTES), nullable=False),
            pa.field("partner", pa.string(), nullable=False),
            pa.field("partner_tag", pa.binary(TAG_BYTES), nullable=False),
        ]
    )


def answer_schema(fields: Sequence[str]) -> pa.Schema:
    """Return the Arrow schema of answers about these fields."""
    filters = [pa.field(f"field:{name}", pa.binary(FILTER_BYTES)) for name in fields]
    return pa.schema([pa.field("nonce", pa.binary(NONCE_BYTES), nullable=False), *filters])


def questions_to_arrow(questions: Questions) -> pa.RecordBatch:
    """Return the questions as one record batch."""
    columns = [
        pa.array(names_of(questions.nonces), pa.binary(NONCE_BYTES)),
        pa.array(names_of(questions.pseudonyms), pa.binary(PSEUDONYM_BYTES)),
        pa.array(questions.partners, pa.string()),
        pa.array(names_of(questions.tags), pa.binary(TAG_BYTES)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=question_schema())


def questions_from_arrow(
    batch: pa.RecordBatch, study: StudyConfig, party: str, *, most: int
) -> Questions:
    """
    Read a broker's questions as strictly as a site should. party: who is asked.

    Raises EncodingRefused for another schema, nulls, more than `most` rows, a nonce that comes
    twice, or a partner who uploads nothing in this study.
    """
    columns = _checked(batch, question_schema(), "the questions", most)
    partners = tuple(columns["partner"].to_pylist())
    if strangers := sorted(set(partners) - set(study.uploaders)):
        raise EncodingRefused(
            f"the questions name {len(strangers)} partners who upload nothing in this study",
            hint="the broker must ask with the signed study file",
        )
    return Questions(
        party=party,
        nonces=_matrix(columns["nonce"], NONCE_BYTES),
        pseudonyms=_matrix(columns["record_pseudonym"], PSEUDONYM_BYTES),
        partners=partners,
        tags=_matrix(columns["partner_tag"], TAG_BYTES),
    )


def answers_to_arrow(answers: Answers) -> pa.RecordBatch:
    """Return the answers as one record batch; its columns are the answers' fields, in order."""
    columns = [pa.array(names_of(answers.nonces), pa.binary(NONCE_BYTES))]
    for column in answers.filters.values():
        filters = [
            name if there else None
            for name, there in zip(names_of(column.values), column.present.tolist(), strict=True)
        ]
        columns.append(pa.array(filters, pa.binary(FILTER_BYTES)))
    return pa.RecordBatch.from_arrays(columns, schema=answer_schema(tuple(answers.filters)))


def answers_from_arrow(
    batch: pa.RecordBatch, study: StudyConfig, questions: Questions, enabled: Collection[str]
) -> Answers:
    """
    Read a site's answers to `questions`. enabled: the fields that the study's looks may use.

    Raises EncodingRefused for another schema, nulls among the nonces, a nonce that was not asked
    or comes twice, a filter for a field that the two parties do not share, and a filter with
    another number of set bits than BITS_SET.
    """
    fields = [f for f in FIELDS if f in enabled]
    said = f"the answers of {questions.party!r}"
    columns = _checked(batch, answer_schema(fields), said, len(questions))
    nonces = _matrix(columns["nonce"], NONCE_BYTES)
    asked = dict(zip(names_of(questions.nonces), questions.partners, strict=True))
    names = names_of(nonces)
    if len(set(names)) != len(names):
        raise EncodingRefused(f"{said} answer a nonce twice", hint=_AGAIN)
    if not set(names) <= set(asked):
        raise EncodingRefused(f"{said} have a nonce that was not asked", hint=_AGAIN)
    partners = np.array([asked[name] for name in names], dtype=object)
    filters = {f: _filters(columns[f"field:{f}"]) for f in fields}
    for partner in set(partners.tolist()):
        shared = fields_between(study, questions.party, partner, enabled)
        for field, column in filters.items():
            if field not in shared and column.present[partners == partner].any():
                raise EncodingRefused(
                    f"{said} hold {field!r}, which {partner!r} does not share",
                    hint="a site answers with the fields of the signed study only",
                )
    for field, column in filters.items():
        counts = np.bitwise_count(column.values).sum(axis=1, dtype=np.int64)
        if (counts[column.present] != BITS_SET).any():
            raise EncodingRefused(
                f"{said} hold a filter of {field!r} that does not have {BITS_SET} bits set",
                hint="answer with the current program",
            )
    return Answers(questions.party, nonces, filters, {})


def _checked(batch: pa.RecordBatch, schema: pa.Schema, said: str, most: int) -> dict[str, pa.Array]:
    if not batch.schema.equals(schema):
        raise EncodingRefused(f"{said} have other columns than this program's", hint=_AGAIN)
    if batch.num_rows > most:
        raise EncodingRefused(f"{said} have more than {most} rows", hint=_AGAIN)
    batch.validate(full=True)
    # Arrow's own validation lets nulls stand in columns that are declared without.
    if any(batch.column(f.name).null_count for f in schema if not f.nullable):
        raise EncodingRefused(f"{said} have nulls where there must be none", hint=_AGAIN)
    return {name: batch.column(name) for name in schema.names}


def _matrix(column: pa.Array, width: int) -> Bytes2D:
    joined = np.frombuffer(b"".join(column.to_pylist()), np.uint8)
    return joined.reshape(len(column), width).copy()


def _filters(column: pa.Array) -> FixedColumn:
    present: npt.NDArray[np.bool_] = np.array([v is not None for v in column.to_pylist()], bool)
    values = np.zeros((len(column), FILTER_BYTES), np.uint8)
    if present.any():
        values[present] = _matrix(column.drop_null(), FILTER_BYTES)
    return FixedColumn(values, present)
