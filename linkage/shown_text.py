"""
Texts of others on a terminal: titles, purposes, what a broker answers, keys of a file.

    print(plain(question.title))
"""

from __future__ import annotations


def plain(text: str) -> str:
    """
    Return text as one line that is safe to show: no escape sequence moves the cursor or writes
    over what stands above, nothing turns the direction of reading, no line is added.

    Where markup is read (rich), wrap it in `rich.text.Text` besides.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in _read(text))


def _read(text: str) -> str:
    """A path's bytes that the locale, such as LC_ALL=C, did not read are UTF-8 nearly always."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text


def plain_lines(text: str) -> str:
    """Return the same of a text of several lines, which stay."""
    return "\n".join(plain(line) for line in text.split("\n"))
