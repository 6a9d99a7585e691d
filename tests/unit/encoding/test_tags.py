"""Many HMACs at once: the compiled loop, the reference and hmac itself agree."""

from __future__ import annotations

import hmac
import pickle
import threading

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.encoding import tags
from linkage.encoding.columns import Coded
from linkage.encoding.spelt import Spelt, joined
from linkage.encoding.tags import Tagger
from linkage.errors import EncodingRefused

KEY = bytes(range(32))


def _joined(messages: list[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    starts = np.zeros(len(messages) + 1, np.int64)
    np.cumsum([len(one) for one in messages], out=starts[1:])
    return np.frombuffer(b"".join(messages), np.uint8), starts


@settings(max_examples=80, deadline=None)
@given(
    key=st.binary(min_size=32, max_size=200),
    messages=st.lists(st.binary(max_size=300), max_size=20),
    fast=st.booleans(),
)
def test_each_tag_is_that_of_hmac(key: bytes, messages: list[bytes], fast: bool) -> None:
    tagger = Tagger(key, openssl=None if fast else False)
    found = tagger.tags(*_joined(messages))
    assert [row.tobytes() for row in found] == [
        hmac.digest(key, one, "sha256")[:16] for one in messages
    ]


@settings(max_examples=80, deadline=None)
@given(
    prefix=st.binary(max_size=20),
    texts=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8"), max_size=30)] * 3), min_size=1, max_size=9
    ),
    data=st.data(),
)
def test_tags_of_values_are_those_of_their_messages(
    prefix: bytes, texts: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    columns = [Spelt.of(Coded.of(list(column))) for column in zip(*texts, strict=True)]
    columns = columns[: data.draw(st.integers(1, 3))]
    rows = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1))), np.int64)
    name = np.frombuffer(prefix, np.uint8)
    expected = Tagger(KEY, openssl=False).tags(*joined(name, columns, rows))
    assert (Tagger(KEY).tags_of(name, columns, rows) == expected).all()
    assert (Tagger(KEY, openssl=False).tags_of(name, columns, rows) == expected).all()


def test_a_value_of_very_many_bytes_keeps_its_length() -> None:
    column = Spelt.of_values(["", "a" * 65_537, "b" * 16_777_217])
    rows = np.arange(3)
    found = Tagger(KEY).tags_of(np.zeros(0, np.uint8), [column], rows)
    assert (found == Tagger(KEY).tags(*joined(np.zeros(0, np.uint8), [column], rows))).all()


@pytest.mark.parametrize("n", [0, 1, 1023, 1024, 1025, 2049])
def test_the_loop_equals_the_reference_at_block_ends(n: int) -> None:
    messages, starts = _joined([str(i).encode() * (i % 7) for i in range(n)])
    tagger = Tagger(KEY)
    assert (tagger.tags(messages, starts) == tagger.tags_reference(messages, starts)).all()


def test_the_loop_is_used_where_python_has_a_shared_openssl() -> None:
    try:
        import _hashlib
    except ImportError:
        pytest.skip("this Python has no OpenSSL")
    with open(_hashlib.__file__, "rb") as file:
        if b"libcrypto.so" not in file.read():
            pytest.skip("this Python's OpenSSL is not shared")
    assert Tagger(KEY).fast


def test_a_library_that_fails_the_test_case_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "_digest", lambda *_: True)  # writes nothing, says it did
    tags._openssl.cache_clear()
    try:
        assert not Tagger(KEY).fast
    finally:
        monkeypatch.undo()
        tags._openssl.cache_clear()


def test_threads_may_share_one() -> None:
    tagger = Tagger(KEY)
    inputs = [_joined([bytes([i]) * j for j in range(3000)]) for i in range(4)]
    found: dict[int, npt.NDArray[np.uint8]] = {}
    workers = [
        threading.Thread(target=lambda i=i: found.update({i: tagger.tags(*inputs[i])}))  # type: ignore[misc]
        for i in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, given_ in enumerate(inputs):
        assert (found[i] == tagger.tags_reference(*given_)).all()


def test_a_short_key_is_refused_and_the_key_never_leaves() -> None:
    with pytest.raises(EncodingRefused):
        Tagger(bytes(31))
    with pytest.raises(TypeError, match="refuses"):
        pickle.dumps(Tagger(KEY))
    assert KEY.hex() not in repr(Tagger(KEY))
