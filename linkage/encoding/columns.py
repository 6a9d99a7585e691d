"""
Columns of normalised values, each different value kept once: what every encoder works on.

People share names, days and sexes, so whatever a value costs (cutting into tokens, hashing,
changing) is paid once a different value and not once a record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Coded:
    """
    N values by number: row i holds `values[codes[i]]`.

    codes: int32[N], each in 0 .. len(values) - 1. values: texts, "" where null; usually all
    different, but a transform may make two equal.

    Raises EncodingRefused where a code names no value.
    """

    codes: npt.NDArray[np.int32]
    values: list[str]

    def __post_init__(self) -> None:
        if self.codes.dtype != np.int32 or self.codes.ndim != 1:
            raise EncodingRefused("codes of a column must be int32, one a record")
        if self.codes.size and not 0 <= self.codes.min() <= self.codes.max() < len(self.values):
            raise EncodingRefused("a code of a column names no value")

    def __len__(self) -> int:
        return len(self.codes)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a column of values refuses pickling: it holds identifiers")

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Return the column of N texts. Raises EncodingRefused for nulls."""
        try:
            coded = pa.array(texts, pa.string()).dictionary_encode()
        except UnicodeEncodeError:  # an unpaired surrogate, which Arrow has no bytes for
            return cls.reference(texts)
        if coded.null_count:
            raise EncodingRefused("a column holds nulls", hint="a missing value is an empty string")
        return cls(coded.indices.to_numpy(), coded.dictionary.to_pylist())

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
        return np.fromiter(map(bool, self.values), dtype=bool, count=len(self.values))[self.codes]
