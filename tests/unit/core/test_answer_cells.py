"""What the imaging party says of one person opens with that person's key and no other."""

from __future__ import annotations

import pytest

from linkage.answer_cells import CELL_BYTES, CONTENT_BYTES, decrypt_cell, encrypt_cell
from linkage.errors import PackageRefused

KEY, NAME, CONTENT = b"k" * 32, b"n" * 16, bytes(range(CONTENT_BYTES))


@pytest.mark.threat("T11")
def test_a_cell_opens_with_its_key_and_its_question_id_only() -> None:
    cell = encrypt_cell(KEY, NAME, CONTENT)
    assert len(cell) == CELL_BYTES == 156
    assert decrypt_cell(KEY, NAME, cell) == CONTENT
    strangers = [
        (b"x" * 32, NAME, cell),
        (KEY, b"x" * 16, cell),
        (KEY, NAME, cell[:-1] + bytes([cell[-1] ^ 1])),
        (KEY, NAME, cell[:20]),
        (KEY, NAME, b""),
    ]
    for key, name, other in strangers:
        with pytest.raises(PackageRefused):
            decrypt_cell(key, name, other)


@pytest.mark.threat("T11")
def test_two_records_of_one_person_share_a_key_and_no_nonce() -> None:
    cells = {encrypt_cell(KEY, NAME, CONTENT) for _ in range(50)}
    assert len({cell[:12] for cell in cells}) == 50


@pytest.mark.threat("T11")
def test_no_length_tells() -> None:
    for content in (b"", CONTENT[:-1], CONTENT + b"\0"):
        with pytest.raises(ValueError, match="128 bytes"):
            encrypt_cell(KEY, NAME, content)
