"""What to say where the locale cannot write the name of a file: no bug. Workers read it, too."""

from __future__ import annotations

import sys

from linkage.errors import LinkageError


def foreign_letter(fault: BaseException) -> LinkageError | None:
    """
    Return what to say of a letter that the locale cannot put into a file's name, None of any other
    fault. Where files have names in UTF-8, as nearly everywhere, there is no such letter.
    """
    encoding = sys.getfilesystemencoding()
    if not isinstance(fault, UnicodeEncodeError) or encoding == "utf-8":
        return None
    return LinkageError(
        f"a path has letters that this locale, {encoding}, cannot write",
        hint="run the same with LC_ALL=C.UTF-8 before it, and without PYTHONUTF8=0",
    )
