"""
HMAC-SHA-256 of very many short messages under one key: what match keys cost.

    tags = Tagger(key).tags(messages, starts)
    tags = Tagger(key).tags_of(prefix, [Spelt.of(column), ...], rows)

Called from Python, an HMAC costs more in the call than in the hash. Where Python's own OpenSSL
can be reached, a compiled loop calls its HMAC (keyed once, started again for each message)
and nothing of Python runs in between: about four times the speed. Elsewhere, and as the
reference, each message is one copy of a keyed context of pyca/cryptography. Both are OpenSSL;
no cryptography is written here.

Source: RFC 2104, RFC 6234; the test case that admits the fast way is RFC 4231, 4.3.
"""

from __future__ import annotations

import ctypes
import functools
import hmac
import itertools
import threading
import weakref
from collections.abc import Sequence
from typing import Any, NoReturn

import llvmlite.binding
import numba
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from numba import types

from linkage.encoding.spelt import Spelt, beside, joined
from linkage.errors import EncodingRefused

TAG_BYTES = 16
_DIGEST_BYTES = 32
_ROWS = 1024
"""Messages whose whole digests are held at once, before they are cut."""

_WORD = 8

Bytes = npt.NDArray[np.uint8]

_POINTER = types.uintp
_init = types.ExternalFunction(
    "commons_linkage_hmac_init",
    types.int32(_POINTER, _POINTER, types.int32, _POINTER, _POINTER),
)
_update = types.ExternalFunction(
    "commons_linkage_hmac_update", types.int32(_POINTER, _POINTER, types.uintp)
)
_final = types.ExternalFunction(
    "commons_linkage_hmac_final", types.int32(_POINTER, _POINTER, _POINTER)
)


class Tagger:
    """
    HMAC-SHA-256 under one key, cut to 16 bytes, of any number of messages at once.

    key: 32 bytes or more. Refuses pickling, for it holds the key. openssl: None tries the fast
    way; False takes the reference.
    """

    def __init__(self, key: bytes, *, openssl: bool | None = None) -> None:
        if len(key) < _DIGEST_BYTES:
            raise EncodingRefused("an HMAC key has 32 bytes or more")
        self._library = None if openssl is False else _openssl()
        self._lock = threading.Lock()
        self._reference = HMAC(key, hashes.SHA256())
        if self._library is not None:
            self._context = _keyed(self._library, key)
            weakref.finalize(self, self._library.HMAC_CTX_free, self._context)

    @property
    def fast(self) -> bool:
        """Whether the compiled loop is used."""
        return self._library is not None

    def tags(self, messages: Bytes, starts: npt.NDArray[np.int64]) -> Bytes:
        """
        Return uint8[M, 16]: the tag of each message messages[starts[i]:starts[i + 1]].

        messages: uint8, contiguous. starts: int64[M + 1], rising from 0 to len(messages).
        Equal to `tags_reference`.
        """
        if self._library is None:
            return self.tags_reference(messages, starts)
        found = np.empty((len(starts) - 1, TAG_BYTES), np.uint8)
        digests = np.empty((_ROWS, _DIGEST_BYTES), np.uint8)
        with self._lock:  # the loop runs without the interpreter's lock, on one context
            for first in range(0, len(found), _ROWS):
                some = starts[first : first + _ROWS + 1]
                if not _digest(self._context, messages.ctypes.data, some, digests.ctypes.data):
                    raise EncodingRefused("OpenSSL's HMAC failed", hint="is memory short?")
                found[first : first + _ROWS] = digests[: len(some) - 1, :TAG_BYTES]
        return found

    def tags_of(
        self, prefix: Bytes, columns: Sequence[Spelt], rows: npt.NDArray[np.int64]
    ) -> Bytes:
        """
        Return uint8[M, 16]: the tags of the messages that `joined` makes of the same.

        Here no message outlives its tag: each is put together in one small buffer, which stays in
        the processor's nearest cache. Equal to `tags(*joined(prefix, columns, rows))`.
        """
        if self._library is None:
            return self.tags_reference(*joined(prefix, columns, rows))
        codes, letters, starts, longest = beside(columns, rows)
        message = np.empty(len(prefix) + longest + _WORD, np.uint8)
        message[: len(prefix)] = prefix
        words = _words(message, np.uint64), _words(message, np.uint32), _words(letters, np.uint64)
        digest = np.empty(_DIGEST_BYTES // 8, np.uint64)
        found = np.empty((len(rows), TAG_BYTES // 8), np.uint64)
        with self._lock:
            places = message.ctypes.data, digest.ctypes.data
            if not _digest_values(
                self._context, len(prefix), codes, starts, *words, digest, found, *places
            ):
                raise EncodingRefused("OpenSSL's HMAC failed", hint="is memory short?")
        return found.view(np.uint8)

    def tags_reference(self, messages: Bytes, starts: npt.NDArray[np.int64]) -> Bytes:
        """Return the same as `tags`, one message after the other, by pyca/cryptography."""
        data, places = messages.tobytes(), starts.tolist()
        tags = []
        for start, stop in itertools.pairwise(places):
            mac = self._reference.copy()
            mac.update(data[start:stop])
            tags.append(mac.finalize())
        found = np.frombuffer(b"".join(tags), np.uint8).reshape(-1, _DIGEST_BYTES)
        return np.ascontiguousarray(found[:, :TAG_BYTES])

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Tagger holds a key and refuses pickling and copying")


@functools.cache
def _openssl() -> ctypes.CDLL | None:
    """
    Return the OpenSSL that Python's hashlib uses, None where its HMAC cannot be reached.

    Found through the extension module, so that no second OpenSSL is loaded. The loop knows the
    functions by names of our own: no library that is loaded later can take them for its own.
    """
    try:
        import _hashlib

        library = ctypes.CDLL(_hashlib.__file__)
        pointer, number = ctypes.c_void_p, ctypes.c_int
        library.EVP_sha256.restype = library.HMAC_CTX_new.restype = pointer
        library.HMAC_CTX_free.restype, library.HMAC_CTX_free.argtypes = None, [pointer]
        library.HMAC_Init_ex.argtypes = [pointer, ctypes.c_char_p, number, pointer, pointer]
        for name, function in (
            ("init", library.HMAC_Init_ex),
            ("update", library.HMAC_Update),
            ("final", library.HMAC_Final),
        ):
            address = ctypes.cast(function, pointer).value
            llvmlite.binding.add_symbol(f"commons_linkage_hmac_{name}", address)
    except (ImportError, OSError, AttributeError, TypeError):
        return None
    return library if _passes(library) else None


def _passes(library: ctypes.CDLL) -> bool:
    """Say whether the loop gives what hmac gives for RFC 4231's second case, twice over."""
    key, message = b"Jefe", b"what do ya want for nothing?"
    context = _keyed(library, key)
    data = np.frombuffer(message * 2, np.uint8)
    found = np.zeros((2, _DIGEST_BYTES), np.uint8)
    starts = np.array([0, len(message), 2 * len(message)], np.int64)
    done = _digest(context, data.ctypes.data, starts, found.ctypes.data)
    library.HMAC_CTX_free(context)
    return bool(done) and found.tobytes() == 2 * hmac.digest(key, message, "sha256")


def _keyed(library: ctypes.CDLL, key: bytes) -> int:
    context = library.HMAC_CTX_new()
    if not context or not library.HMAC_Init_ex(context, key, len(key), library.EVP_sha256(), None):
        raise EncodingRefused("OpenSSL's HMAC failed", hint="is memory short?")
    return int(context)


@numba.njit(nogil=True, cache=True)
def _digest(context: Any, messages: Any, starts: Any, digests: Any) -> Any:
    """Write 32 bytes a message to `digests`; context, messages, digests are addresses."""
    for i in range(len(starts) - 1):
        done = _init(context, 0, 0, 0, 0)
        done &= _update(context, messages + starts[i], starts[i + 1] - starts[i])
        done &= _final(context, digests + i * 32, 0)
        if done != 1:
            return False
    return True


def _words(data: Bytes, kind: type[np.generic]) -> npt.NDArray[Any]:
    """Return the word that begins at each byte but the last few: a view of overlapping words."""
    width = np.dtype(kind).itemsize
    return np.ndarray((len(data) - width + 1,), np.dtype(kind).newbyteorder("<"), data, 0, (1,))


@numba.njit(nogil=True, cache=True)
def _digest_values(context, size, codes, starts, message, sizes, letters, digest, found, at, to):  # type: ignore[no-untyped-def]
    """
    Write the tags of M messages to `found`, uint64[M, 2].

    codes, starts, letters: see `beside`. message: holds the prefix, `size` bytes, and has room for
    the longest; at: its address. message and letters are words at each byte, so that a value is
    copied eight bytes at a time: what goes past its end is written over by what follows. sizes: the
    message as half words. digest: uint64[4], room for one; to: its address.
    """
    for row in range(codes.shape[0]):
        end = size
        for column in range(codes.shape[1]):
            first = starts[codes[row, column]]
            length = starts[codes[row, column] + 1] - first
            big = (length & 255) << 24 | (length >> 8 & 255) << 16
            sizes[end] = np.uint32(big | (length >> 16 & 255) << 8 | length >> 24 & 255)
            end += 4
            for place in range(0, length, 8):
                message[end + place] = letters[first + place]
            end += length
        done = _init(context, 0, 0, 0, 0)
        done &= _update(context, at, end)
        done &= _final(context, to, 0)
        if done != 1:
            return False
        found[row, 0], found[row, 1] = digest[0], digest[1]
    return True
