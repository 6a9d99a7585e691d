"""
Files as bytes: what they are is told by their content, never by their name.

gzip and zstd are unpacked on the fly, in pieces of CHUNK_BYTES, whatever they unpack to.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from linkage.errors import SourceRefused

CHUNK_BYTES = 1 << 20

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_UNPACK = "unpack it, or compress it with gzip or zstd instead"
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "is a workbook or a ZIP archive", "save it as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "is an old workbook (xls)", "save it as CSV"),
    (b"PAR1", "is a Parquet file", 'set [source] kind = "parquet"'),
    (b"SQLite format 3", "is an SQLite database", 'set [source] kind = "sql" or "omop"'),
    (b"BZh", "is compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ", "is compressed with xz", _UNPACK),
    (b"7z\xbc\xaf", "is a 7-Zip archive", _UNPACK),
    (b"%PDF", "is a PDF", "ask for the data themselves"),
)
"""What people send in place of text: its first bytes, what it is, what to do."""


class ByteFile:
    """
    A file read forward, unpacked where it is compressed.

    done, total: bytes of the file on disk, read so far and in all. compression: "", "gzip", "zstd".

    Raises SourceRefused for a file that is missing, empty or no text, and from `read` for one
    that is cut short or damaged.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        self._raw: IO[bytes] = _opened(path)
        self.total = path.stat().st_size
        start = self._raw.read(16)
        self._raw.seek(0)
        self.compression, self._stream = self._unpacking(start)
        self._ahead = self.read(CHUNK_BYTES)
        _require_text(name, self._ahead, packed=bool(self.compression))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._raw.close()

    @property
    def done(self) -> int:
        return self._raw.tell()

    def start(self) -> bytes:
        """Return the first bytes, up to CHUNK_BYTES; `read` gives them again."""
        return self._ahead

    def next(self) -> bytes:
        """Return the next bytes, b"" at the end."""
        piece, self._ahead = self._ahead, b""
        return piece or self.read(CHUNK_BYTES)

    def read(self, size: int) -> bytes:
        """Return up to `size` unpacked bytes."""
        try:
            return bytes(self._stream.read(size))
        except (EOFError, zlib.error, OSError):
            # What the libraries say may quote bytes of the file.
            raise SourceRefused(
                file=self._name,
                rule="is cut short or damaged: it cannot be unpacked to its end"
                if self.compression
                else "cannot be read to its end",
                hint="copy or export it again, and compare sizes",
            ) from None

    def _unpacking(self, start: bytes) -> tuple[str, IO[bytes]]:
        if start.startswith(_GZIP):
            return "gzip", gzip.GzipFile(fileobj=self._raw)  # type: ignore[return-value]
        if start.startswith(_ZSTD):
            import pyarrow as pa

            return "zstd", pa.CompressedInputStream(self._raw, "zstd")
        return "", self._raw


def files_in(path: Path, endings: tuple[str, ...]) -> list[Path]:
    """
    Return `path` if it is a file, else the files below that folder with one of `endings`, sorted.

    Hidden ones and those that start with an underscore are marks of other programs. Raises
    SourceRefused where there are none.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        rule = "there is no such file or folder"
        raise SourceRefused(file=str(path), rule=rule, hint="check [source] file")
    found = sorted(
        one
        for one in path.rglob("*")
        if one.name.lower().endswith(endings)
        and not any(part.startswith((".", "_")) for part in one.relative_to(path).parts)
        and one.is_file()
    )
    if not found:
        raise SourceRefused(
            file=path.name,
            rule=f"is a folder without a file named *{' or *'.join(endings)}",
            hint="name the folder that holds them, or one file",
        )
    return found


def _opened(path: Path) -> IO[bytes]:
    try:
        if not path.is_dir():
            return path.open("rb")
        rule, hint = "is a folder", "name the file in it"
    except FileNotFoundError:
        rule, hint = "there is no such file", "check [source] file"
    except OSError as fault:
        rule, hint = f"cannot be opened ({type(fault).__name__})", "check its owner and its mode"
    raise SourceRefused(file=str(path), rule=rule, hint=hint)


def _require_text(name: str, start: bytes, *, packed: bool) -> None:
    if not start:
        raise SourceRefused(file=name, rule="is empty", hint="export it again, with a header")
    for magic, rule, hint in _OTHERS:
        if start.startswith(magic):
            raise SourceRefused(file=name, rule=rule, hint=hint)
    if packed and start.startswith((_GZIP, _ZSTD)):
        raise SourceRefused(file=name, rule="is compressed twice", hint="unpack it once")
