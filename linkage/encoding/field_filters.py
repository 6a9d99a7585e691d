"""
Second looks, the site's side: field filters of one record for one pair, under a key of that pair.

    answers = answer(questions, columns, study=study, key=key)

The key of a pair is HKDF-SHA-256 of a secret that the study key gives for second looks (so study,
epoch and schema hash are in it), with the nonce and both records' tags, by uploader, as info. A
broker that reuses a nonce, or asks one record with many partners, gets unrelated keys.

A filter has FILTER_BITS bits, of which exactly BITS_SET are set, so its density tells nothing:
    1. cut the value into weighted tokens (`tokens_of`)
    2. each token has a stream of positions: HMAC-SHA-256 under the field's key
    3. tokens take turns, each setting as many new positions as its weight, until BITS_SET are set
Equal values give equal filters; values that share tokens share most of those tokens' bits; others
share what chance gives, BITS_SET^2 / FILTER_BITS. A missing value is null.

What remains: a key holder who sees the filters finds the values by guessing, as with every
encoding here; and the broker learns how alike two values are, which is the purpose.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from linkage.encoding import nicknames, streets
from linkage.encoding.columns import Coded
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.errors import EncodingRefused
from linkage.look_tables import (
    BITS_SET,
    FILTER_BITS,
    FILTER_BYTES,
    Answers,
    Questions,
    fields_between,
    partner_tag,
)
from linkage.records import FixedColumn
from linkage.study import FIELDS, StudyConfig

PURPOSE = "second-look/v1"
_SALT = b"commons-linkage/second-look/pair/v1"

Tokens = Sequence[tuple[str, int]]
"""Different tokens of a value, each with its weight: positions it takes when its turn comes."""


def answer(
    questions: Questions,
    columns: Mapping[str, Coded],
    rows: Mapping[bytes, int],
    *,
    study: StudyConfig,
    key: StudyKey,
    enabled: Collection[str] = FIELDS,
) -> Answers:
    """
    Return the filters of every record asked about that the site holds, in the questions' order.

    columns: by field, normalised (linkage.encoding.fields). rows: by record pseudonym, its row in
    them; questions about other records stay unanswered. enabled: fields that the study allows in
    looks; of them a pair is answered with those that both parties hold.

    Bounds on how often a record may be asked about are the caller's: this knows one request.
    """
    fields = [f for f in FIELDS if f in enabled]
    secret = key.derive(study, PURPOSE)
    asked = [
        (at, rows[pseudonym.tobytes()])
        for at, pseudonym in enumerate(questions.pseudonyms)
        if pseudonym.tobytes() in rows
    ]
    values = np.zeros((len(fields), len(asked), FILTER_BYTES), np.uint8)
    present = np.zeros((len(fields), len(asked)), bool)
    shared = {
        partner: fields_between(study, questions.party, partner, fields)
        for partner in set(questions.partners)
    }
    for place, (at, row) in enumerate(asked):
        partner, nonce = questions.partners[at], questions.nonces[at].tobytes()
        own = partner_tag(nonce, questions.pseudonyms[at].tobytes())
        tags = {questions.party: own, partner: questions.tags[at].tobytes()}
        pair_key = derive_pair_key(secret, nonce, tags)
        for number, field in enumerate(fields):
            if field not in shared[partner]:
                continue
            if field not in columns:
                raise EncodingRefused(
                    f"{questions.party!r} holds {field!r} in the study, but there is no column"
                )
            column = columns[field]
            if made := field_filter(pair_key, field, column.values[column.codes[row]]):
                values[number, place] = np.frombuffer(made, np.uint8)
                present[number, place] = True
    return Answers(
        party=questions.party,
        nonces=questions.nonces[[at for at, _ in asked]],
        filters={f: FixedColumn(values[n], present[n]) for n, f in enumerate(fields)},
        chance={},
    )


def derive_pair_key(secret: bytes, nonce: bytes, tags: Mapping[str, bytes]) -> bytes:
    """
    Return the 32-byte key of one pair: the same at both sites, unrelated to any other pair's.

    secret: `key.derive(study, PURPOSE)`. tags: by uploader, both records' partner_tag.
    """
    parts = [PURPOSE, nonce.hex()]
    for party in sorted(tags):
        parts += [party, tags[party].hex()]
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=_SALT, info=length_prefixed(*parts))
    return kdf.derive(secret)


def field_filter(pair_key: bytes, field: str, value: str) -> bytes:
    """Return the filter of a normalised value, FILTER_BYTES with BITS_SET bits set; b"" if none."""
    tokens = tokens_of(field, value) if value else ()
    if not tokens:
        return b""
    field_key = hmac.digest(pair_key, f"field:{field}".encode(), "sha256")
    # The order in which tokens take turns must not depend on the alphabet.
    turns = sorted(
        (hmac.digest(field_key, f"order:{token}".encode(), "sha256"), token, weight)
        for token, weight in tokens
    )
    streams = [(_positions(field_key, token), weight) for _, token, weight in turns]
    bits = np.zeros(FILTER_BITS, np.uint8)
    count = 0
    while True:
        for stream, weight in streams:
            for _ in range(weight):
                position = next(stream)
                while bits[position]:
                    position = next(stream)
                bits[position] = 1
                count += 1
                if count == BITS_SET:
                    return np.packbits(bits, bitorder="little").tobytes()


def _positions(field_key: bytes, token: str) -> Iterator[int]:
    """Yield positions without end: two bytes each, big-endian, of HMAC blocks 0, 1, 2, ..."""
    block = 0
    while True:
        digest = hmac.digest(field_key, f"token:{block}:{token}".encode(), "sha256")
        for at in range(0, len(digest), 2):
            yield int.from_bytes(digest[at : at + 2], "big") % FILTER_BITS
        block += 1


def tokens_of(field: str, value: str) -> Tokens:
    """
    Return the weighted tokens of a normalised value, each once; none for a value without any.

    What two spellings of one value share should be most of their tokens.
    """
    found: dict[str, int] = {}
    for token, weight in _TOKENS[field](value):
        found[token] = max(found.get(token, 0), weight)
    return tuple(found.items())


Cut = Callable[[str], Iterator[tuple[str, int]]]


def _bigrams(text: str) -> Iterator[tuple[str, int]]:
    padded = f"_{text}_"
    for at in range(len(padded) - 1):
        yield padded[at : at + 2], 2


def _first_name(value: str) -> Iterator[tuple[str, int]]:
    """The spelling; a quarter of the bits for the formal name, which debby and deborah share."""
    if len(value) == 1:
        yield f"_{value}", 2
        return
    yield from _bigrams(value)
    yield f"formal:{nicknames.formal_name(value)}", (2 * len(value) + 2) // 3


def _middle_name(value: str) -> Iterator[tuple[str, int]]:
    """Half of the bits for the first letter, which is all that many records have."""
    yield f"first:{value[0]}", 2 * len(value) + 2
    if len(value) > 1:
        yield from _bigrams(value)


def _last_name(value: str) -> Iterator[tuple[str, int]]:
    """The spelling of each surname, so that either of two is part of both; their order."""
    for part in value.split("-"):
        yield from _bigrams(part)
    yield f"whole:{value.replace('-', '')}", 2


def _date(value: str) -> Iterator[tuple[str, int]]:
    """Digits by place, the century aside; year, month, day; month and day in either order."""
    for at, digit in enumerate(value[2:]):
        yield f"{at}:{digit}", 1
    year, month, day = value[:4], value[4:6], value[6:8]
    yield f"year:{year}", 2
    yield f"month:{month}", 2
    yield f"day:{day}", 2
    yield f"either:{month}", 1
    yield f"either:{day}", 1


def _digits(value: str) -> Iterator[tuple[str, int]]:
    """Digits by place from the end, so that the last four are part of all nine; neighbours."""
    last_first = value[::-1]
    for at, digit in enumerate(last_first):
        yield f"{at}:{digit}", 1
        yield f"{at}:{last_first[at : at + 2]}", 1


def _whole(value: str) -> Iterator[tuple[str, int]]:
    yield f"whole:{value}", 1


def _street(value: str) -> Iterator[tuple[str, int]]:
    """A third of the bits for the house number, the rest for the spelling of the street's name."""
    name = streets.street_name(value)
    if number := streets.house_number(value):
        yield f"number:{number}", len(name) + 1
    yield from _bigrams(name)


def _email(value: str) -> Iterator[tuple[str, int]]:
    name, _, host = value.partition("@")
    yield from _bigrams(name)
    yield f"host:{host}", 2


_TOKENS: Mapping[str, Cut] = {
    "first_name": _first_name,
    "middle_name": _middle_name,
    "last_name": _last_name,
    "date_of_birth": _date,
    "sex": _whole,
    "ssn": _digits,
    "zip": _digits,
    "phone": _digits,
    "email": _email,
    "street": _street,
}
