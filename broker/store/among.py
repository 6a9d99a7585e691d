"""
"Is it one of these many numbers?", asked with one parameter.

SQLAlchemy's `in_` writes each number into the statement, which both it and the driver then read
anew: for thousands of numbers that takes longer than the database does. Nor are they a list, which
the driver would write number by number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    any_,
    cast,
    func,
    literal,
    select,
)


def among(
    connection: Connection, column: ColumnElement[int], numbers: Sequence[int]
) -> ColumnElement[bool]:
    """Return the condition that a column is one of these numbers, which may be none."""
    if connection.dialect.name == "postgresql":
        array = "{" + ",".join(map(str, numbers)) + "}"
        return column == any_(cast(literal(array, Text), ARRAY(BigInteger)))
    each = func.json_each(json.dumps(list(numbers))).table_valued("value")
    return column.in_(select(each.c.value))
