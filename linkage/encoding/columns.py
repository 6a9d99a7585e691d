"""
Columns of normalised values, each different value kept once: what every encoder works on.

People share names, days and sexes, so whatever a value costs (cutting into tokens, hashing,
changing) is paid once a different value and not once a record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused

Letters = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


class Coded:
    """
    N values by number: row i holds `values[codes[i]]`.

    codes: int32[N], each in 0 .. size - 1. values: texts, "" where null; usually all different, but
    a transform may make two equal. What came as an Arrow array is made a list only where somebody
    asks for `values`: of streets nearly every record has another one. Never changed once made.

    Raises EncodingRefused where a code names no value.
    """

    __slots__ = ("_array", "_letters", "_values", "codes")

    def __init__(
        self,
        codes: npt.NDArray[np.int32],
        values: list[str] | None = None,
        *,
        array: pa.StringArray | None = None,
    ) -> None:
        """Take the values as a list, or as an Arrow array without nulls."""
        self.codes, self._values, self._array = codes, values, array
        self._letters: Letters | None = None
        if codes.dtype != np.int32 or codes.ndim != 1:
            raise EncodingRefused("codes of a column must be int32, one a record")
        if codes.size and not 0 <= codes.min() <= codes.max() < self.size:
            raise EncodingRefused("a code of a column names no value")

    def __len__(self) -> int:
        return len(self.codes)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a column of values refuses pickling: it holds identifiers")

    @property
    def size(self) -> int:
        """The number of values."""
        known = self._values if self._values is not None else self._array
        return 0 if known is None else len(known)

    @property
    def values(self) -> list[str]:
        """The values; always the same list."""
        if self._values is None:
            self._values = [] if self._array is None else self._array.to_pylist()
        return self._values

    @property
    def array(self) -> pa.StringArray | None:
        """The values as they came from Arrow; None where they came as a list."""
        return self._array

    @property
    def letters(self) -> Letters:
        """
        The values in UTF-8: letters, uint8, and starts, int64[size + 1]; value u is
        letters[starts[u]:starts[u + 1]].
        """
        if self._letters is None:
            known = self._array
            self._letters = spelt_out(self.values) if known is None else spelt_array(known)
        return self._letters

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Return the column of N texts. Raises EncodingRefused for nulls."""
        try:
            coded = pa.array(texts, pa.string()).dictionary_encode()
        except UnicodeEncodeError:  # an unpaired surrogate, which Arrow has no bytes for
            return cls.reference(texts)
        if coded.null_count:
            raise EncodingRefused("a column holds nulls", hint="a missing value is an empty string")
        return cls(coded.indices.to_numpy(), array=coded.dictionary)

    @classmethod
    def reference(cls, texts: Sequence[str]) -> Self:
        """Return the same as `of`, for any texts, value by value."""
        number: dict[str, int] = {}
        codes = [number.setdefault(text, len(number)) for text in texts]
        return cls(np.array(codes, np.int32), list(number))

    def texts(self) -> list[str]:
        """Return the N values themselves."""
        return [self.values[code] for code in self.codes.tolist()]

    def changed(self, change: Callable[[str], str]) -> Self:
        """Return the column with every non-empty value changed; "" stays ""."""
        made = [change(value) if value else "" for value in self.values]
        return type(self)(self.codes, made)

    def cut(self, part: slice) -> Self:
        """Return the column with every value cut to `part` of its characters."""
        return type(self)(self.codes, [value[part] for value in self.values])

    def present(self) -> npt.NDArray[np.bool_]:
        """Return bool[N]: which rows have a value."""
        starts = self.letters[1]
        return (starts[1:] > starts[:-1])[self.codes]


def spelt_out(values: Sequence[str]) -> Letters:
    """Return the values joined in UTF-8 and where each begins, as `Coded.letters`."""
    text = "".join(values)
    known = values if text.isascii() else [value.encode("utf-8") for value in values]
    starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, known), np.int64, count=len(values)), out=starts[1:])
    return np.frombuffer(text.encode("utf-8"), np.uint8), starts


def spelt_array(values: pa.StringArray) -> Letters:
    """Return the same of an Arrow array without nulls, without copying a letter."""
    if values.null_count:
        raise EncodingRefused("a column holds nulls", hint="a missing value is an empty string")
    _, offsets, data = values.buffers()
    n = len(values)
    starts = np.zeros(n + 1, np.int64)
    if n:
        starts[:] = np.frombuffer(offsets, np.int32)[values.offset : values.offset + n + 1]
    letters = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return letters, starts
