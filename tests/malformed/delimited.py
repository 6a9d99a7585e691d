"""Broken delimited text: name -> input, the error's message, its hint."""

from __future__ import annotations

import bz2
import gzip

from tests.malformed.broken import (
    CANARY,
    GOOD,
    HEADER,
    ROWS,
    Broken,
    csv,
    folder_for_a_file,
    packed,
    workbook,
)

CASES: dict[str, tuple[Broken, str, str]] = {
    "another delimiter than the site file says": (
        csv(GOOD.replace(",", "|"), delimiter=","),
        'people.csv: is not delimited by ","; its header holds 3 "|"',
        'set [source] delimiter = "|", or drop the line',
    ),
    "a delimiter nobody uses": (
        csv(GOOD.replace(",", "~")),
        "people.csv: has one column only",
        "check [source] delimiter, and that row 1 is the header",
    ),
    "one column": (
        csv(f"last\n{CANARY}\n"),
        "people.csv: has one column only",
        "check [source] delimiter, and that row 1 is the header",
    ),
    "no header": (
        csv(ROWS),
        "people.csv: row 1 (4 columns) holds none of the column names that the site file "
        "or common use gives",
        "row 1 must be the header; export it again with one, or correct [source.columns]",
    ),
    "a blank row before the header": (
        csv("\n" + GOOD),
        "people.csv: has no header: row 1 is blank",
        "export it again, with a header",
    ),
    "the header twice": (
        csv(GOOD + HEADER),
        "people.csv, row 4: repeats the header",
        "files were put together; keep the first header only",
    ),
    "a row too short": (
        csv(GOOD + f"r3,{CANARY}\n"),
        "people.csv, row 4: has 2 columns where the header has 4",
        "a value with a delimiter or a line end in it needs quotation marks",
    ),
    "a row too long": (
        csv(GOOD + f"r3,Cara,{CANARY},06/23/1912,x\n"),
        "people.csv, row 4: has 5 columns where the header has 4",
        "a value with a delimiter or a line end in it needs quotation marks",
    ),
    "text after a closing quotation mark": (
        csv(GOOD + f'r3,"Cara" {CANARY},x,06/23/1912\n'),
        "people.csv, row 4: has a broken quotation mark",
        "a quotation mark inside a value is written twice; export it again",
    ),
    "a quotation mark never closed": (
        csv(GOOD + f'r3,"{CANARY},x,06/23/1912\n'),
        "people.csv, row 4: opens a quotation mark that is never closed",
        "a quotation mark inside a value is written twice; export it again",
    ),
    "a quotation mark that swallows rows": (
        csv(GOOD + f'r3,"{CANARY},x,y\nr4,a,"b" c,d\n'),
        "people.csv, row 4: has a broken quotation mark",
        "lines 4 to 5 are left out; a quotation mark inside a value is written twice; "
        "export it again",
    ),
    "a value without end": (
        csv(GOOD + f'r3,"{CANARY}' + "x" * 200_000 + '",y,z\n'),
        "people.csv, row 4: holds a value longer than 131,072 characters",
        "a quotation mark inside a value is written twice; export it again",
    ),
    "a row without end": (
        csv(GOOD + f"r3,{CANARY}" + "," * 3_000_000),
        "people.csv: row 4 is longer than a million characters",
        "an unclosed quotation mark, or not delimited text at all?",
    ),
    "NUL characters": (
        csv(GOOD + f"r3,{CANARY}\0\0,x,06/23/1912\n"),
        "people.csv, row 4: holds a NUL character",
        "export it again as text",
    ),
    "empty record id": (
        csv(GOOD + f" ,Cara,{CANARY},06/23/1912\n"),
        "people.csv, row 4, field 'record_id': has no record id",
        "give it one at the source",
    ),
    "windows-1252 that the site file calls UTF-8": (
        csv((GOOD + f"r3,Zoë,{CANARY},\n").encode("cp1252"), encoding="utf-8"),
        "people.csv: is not utf-8 text, first at row 4",
        'save it as UTF-8, or set [source] encoding, for example "windows-1252"',
    ),
    "UTF-8 with one bad byte": (
        csv((GOOD + "r3,Zoë,x,\n").encode() + f"r4,{CANARY}".encode() + b"\xff,x,\n"),
        "people.csv: is not utf-8 text, first at row 5",
        'save it as UTF-8, or set [source] encoding, for example "windows-1252"',
    ),
    "UTF-8 that the site file calls windows-1252": (
        csv((GOOD + "r3,Zoë,x,\n").encode(), encoding="windows-1252"),
        "people.csv: is UTF-8 text, not windows-1252",
        "drop [source] encoding, or set it to utf-8",
    ),
    "UTF-8 that the site file calls UTF-16": (
        csv(GOOD.encode(), encoding="utf-16"),
        "people.csv: is not UTF-16 text: nothing marks it so",
        "drop [source] encoding, or set it to utf-8",
    ),
    "UTF-8 that the site file calls UTF-32": (
        csv(GOOD.encode(), encoding="utf-32"),
        "people.csv: is not UTF-32 text: nothing marks it so",
        "drop [source] encoding, or set it to utf-8",
    ),
    "wide UTF-16 that the site file calls UTF-8": (
        csv(GOOD.encode("utf-16"), encoding="utf-8"),
        "people.csv: is UTF-16 text, not utf-8",
        'set [source] encoding = "utf-16-le", or drop it',
    ),
    "wide UTF-16 without a mark that the site file calls UTF-8": (
        csv(GOOD.encode("utf-16-le"), encoding="utf-8"),
        "people.csv: is UTF-16 text, not utf-8",
        'set [source] encoding = "utf-16-le", or drop it',
    ),
    "wide UTF-16 cut in the middle of a letter": (
        csv(GOOD.encode("utf-16")[:-1]),
        "people.csv: is not utf-16-le text, first at row 3",
        "it may be cut short: copy or export it again",
    ),
    "wide UTF-32": (
        csv(GOOD.encode("utf-32")),
        "people.csv: is UTF-32 text",
        "save it as UTF-8",
    ),
    "bytes that windows-1252 does not have": (
        csv(GOOD.encode() + f"r3,{CANARY}".encode() + b"\x81,x,\n"),
        "people.csv: is not windows-1252 text, first at row 4",
        "save it as UTF-8, or name its own encoding as [source] encoding",
    ),
    "packed with gzip and cut short": (
        csv(packed(GOOD * 1000, cut=30)),
        "people.csv: is cut short or damaged: it cannot be unpacked to its end",
        "copy or export it again, and compare sizes",
    ),
    "packed with gzip and followed by rubbish": (
        csv(packed(GOOD) + CANARY.encode()),
        "people.csv: is cut short or damaged: it cannot be unpacked to its end",
        "copy or export it again, and compare sizes",
    ),
    "packed twice": (
        csv(gzip.compress(packed(GOOD))),
        "people.csv: is compressed twice",
        "unpack it once",
    ),
    "packed zstd rubbish": (
        csv(b"\x28\xb5\x2f\xfd" + CANARY.encode()),
        "people.csv: is cut short or damaged: it cannot be unpacked to its end",
        "copy or export it again, and compare sizes",
    ),
    "packed with bzip2": (
        csv(bz2.compress(GOOD.encode())),
        "people.csv: is compressed with bzip2",
        "unpack it, or compress it with gzip or zstd instead",
    ),
    "a workbook": (
        workbook,
        "people.csv: is a workbook or a ZIP archive",
        "save it as CSV, or unpack it",
    ),
    "an old workbook": (
        csv(b"\xd0\xcf\x11\xe0" + CANARY.encode()),
        "people.csv: is an old workbook (xls)",
        "save it as CSV",
    ),
    "a PDF": (
        csv(b"%PDF-1.7\n" + CANARY.encode()),
        "people.csv: is a PDF",
        "ask for the data themselves",
    ),
    "Parquet called delimited": (
        csv(b"PAR1" + CANARY.encode()),
        "people.csv: is a Parquet file",
        'set [source] kind = "parquet"',
    ),
    "empty file": (
        csv(""),
        "people.csv: is empty",
        "export it again, with a header",
    ),
    "empty packed file": (
        csv(packed("")),
        "people.csv: is empty",
        "export it again, with a header",
    ),
    "a header and nothing else": (
        csv(f"{HEADER[:-1]},{CANARY}\n"),
        "people.csv: has no record",
        "check the export",
    ),
    "a column that is not there": (
        csv(GOOD, columns={"last_name": "surname"}),
        "people.csv: has no column for last_name (looked for surname)",
        'write last_name = "..." under [source.columns]; the columns are: id, first, last, dob',
    ),
    "a column that could be two": (
        csv(GOOD.replace("dob\n", "surname\n") + f"r3,{CANARY},x,\n"),
        "people.csv: has 2 columns that could be last_name: columns 3 and 4",
        'name the right one under [source.columns]: last_name = "...", or drop the other',
    ),
    "a column given to two fields": (
        csv(GOOD, columns={"first_name": "last", "last_name": "last"}),
        "people.csv: column 3 is given for both first_name and last_name",
        "give each its own column under [source.columns]",
    ),
    "dates in another format": (
        csv(HEADER + f"r1,A,B,10.XII.1915\nr2,C,{CANARY},3.VI.1912\nr3,A,T,1.I.1912\n"),
        "people.csv: 3 of 3 values of date_of_birth are invalid, first in row 2; mostly: "
        "not a date in this format",
        "check [source] date_format against the source",
    ),
    "no date format": (
        csv(GOOD, date_format=None),
        "people.csv: the site file says nothing of how dates are written in it",
        'add under [source]: date_format = "MM/DD/YYYY", or as they stand there',
    ),
    "a folder in place of a file": (
        folder_for_a_file,
        "{folder}/people.csv: is a folder",
        "name the file in it",
    ),
    "no file": (
        lambda folder: {"file": folder / "people.csv", "date_format": "MM/DD/YYYY"},
        "{folder}/people.csv: there is no such file",
        "check [source] file",
    ),
}
