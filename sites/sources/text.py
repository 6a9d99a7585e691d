"""
Text of a file whose encoding may not be known, in pieces of whole lines.

A byte order mark settles it. Without one, text is UTF-8 unless the first byte that is not ASCII
says otherwise: up to there UTF-8 and windows-1252 are the same, so nothing has to be read twice.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator

from linkage.errors import SourceRefused
from sites.sources.files import CHUNK_BYTES, ByteFile

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ONE_BYTE = ("cp1252", "iso8859-1", "iso8859-15", "latin-1")
_SAMPLE = 4096
LONGEST_ROW = CHUNK_BYTES
"""Characters that a row may have, about; no memory is kept for more."""


class Undecodable(Exception):
    """The next line holds bytes that are no text in `encoding`."""

    def __init__(self, encoding: str) -> None:
        self.encoding = shown(encoding)
        self.hint = 'save it as UTF-8, or set [source] encoding, for example "windows-1252"'
        if encoding.startswith("utf-16"):
            self.hint = "it may be cut short: copy or export it again"
        elif encoding != "utf-8":
            self.hint = "save it as UTF-8, or name its own encoding as [source] encoding"
        super().__init__(self.encoding)


def shown(encoding: str) -> str:
    """Return the name that people know."""
    return "windows-1252" if encoding == "cp1252" else encoding


class Text:
    """
    The text of `file`. given: its encoding if known. encoding: what it is read as; note: why, for
    a person, "" where there is nothing to say. nul: whether a NUL character was met. unended:
    whether the last line has no end.

    Iterate `pieces` once. Raises SourceRefused where the bytes plainly have another encoding than
    the one given, Undecodable, after all text before it, at a byte that has no meaning.
    """

    def __init__(self, file: ByteFile, name: str, given: str | None) -> None:
        self._file, self._name, self._given = file, name, given
        marked = next(((m, e) for m, e in _MARKS if file.start().startswith(m)), None)
        self._mark = marked[0] if marked else b""
        self.nul, self.note = False, ""
        self.unended = False
        self.encoding = self._by_start(marked[1] if marked else "")
        self._open = (not marked and self.encoding == "utf-8") or given in _ONE_BYTE

    def pieces(self, row: Callable[[], int]) -> Iterator[str]:
        """
        Yield pieces of whole lines. row: the row that the caller makes of them next.

        A piece that made no row means a row without end: Raises SourceRefused.
        """
        rest, at, waiting = "", 0, 0
        for piece in self._decoded():
            self.nul = self.nul or "\0" in piece
            lines, rest = _cut(rest + piece)
            if row() != at:
                at, waiting = row(), 0
            waiting += len(lines)
            if max(len(rest), waiting - len(lines)) > LONGEST_ROW:
                raise SourceRefused(
                    file=self._name,
                    rule=f"row {at} is longer than a million characters",
                    hint="an unclosed quotation mark, or not delimited text at all?",
                )
            if lines:
                yield lines
        if rest:
            self.unended = not rest.endswith(("\n", "\r"))
            yield rest

    def _decoded(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder(self.encoding)()
        data = self._file.next().removeprefix(self._mark)
        while True:
            following = self._file.next()
            try:
                if self._open and not data.isascii():
                    self._settle(data, final=not following)
                    decoder = codecs.getincrementaldecoder(self.encoding)()
                yield decoder.decode(data, final=not following)
            except UnicodeDecodeError as fault:
                # The start counts from what the decoder kept of the piece before.
                if good := fault.object[: fault.start]:
                    yield good.decode(self.encoding)
                raise Undecodable(self.encoding) from None
            if not following:
                return
            data = following

    def _settle(self, data: bytes, *, final: bool) -> None:
        """Settle on UTF-8 or another at the first byte that is not ASCII."""
        self._open = False
        at = _not_utf8(data, final=final)
        if self._given in _ONE_BYTE:
            if at < 0:
                raise SourceRefused(
                    file=self._name,
                    rule=f"is UTF-8 text, not {shown(self._given)}",
                    hint="drop [source] encoding, or set it to utf-8",
                )
        elif self._given is None and at >= 0 and data[:at].isascii():
            self.encoding = "cp1252"
            self.note = "encoding windows-1252: the first letter beyond ASCII is no UTF-8"

    def _by_start(self, marked: str) -> str:
        given = self._given
        if marked == "utf-32":
            raise SourceRefused(file=self._name, rule="is UTF-32 text", hint="save it as UTF-8")
        wide = marked or _wide(self._file.start()[:_SAMPLE])
        kind = wide[:6].rstrip("-")
        if wide and given and not given.startswith(kind):
            raise SourceRefused(
                file=self._name,
                rule=f"is {kind.upper()} text, not {shown(given)}",
                hint=f'set [source] encoding = "{wide}", or drop it',
            )
        if given in ("utf-16", "utf-32") and not wide:
            raise SourceRefused(
                file=self._name,
                rule=f"is not {given.upper()} text: nothing marks it so",
                hint="drop [source] encoding, or set it to utf-8",
            )
        if kind == "utf-16":
            how = "the file is marked so" if marked else "every other byte is zero"
            self.note = f"encoding {wide}: {how}"
        return wide or given or "utf-8"


def _cut(text: str) -> tuple[str, str]:
    """Cut after the last line end: "\\n", or a "\\r" that no "\\n" can follow any more."""
    at = text.rfind("\n") + 1 or text.rfind("\r", 0, -1) + 1
    return text[:at], text[at:]


def _not_utf8(data: bytes, *, final: bool) -> int:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final)
    except UnicodeDecodeError as fault:
        return fault.start
    return -1


def _wide(sample: bytes) -> str:
    """Return the byte order of UTF-16 without a mark, whose ASCII has a zero in every pair."""
    pairs = len(sample) // 2
    if not pairs:
        return ""
    if sample[1::2].count(0) > 0.8 * pairs and not sample[0::2].count(0):
        return "utf-16-le"
    if sample[0::2].count(0) > 0.8 * pairs and not sample[1::2].count(0):
        return "utf-16-be"
    return ""
