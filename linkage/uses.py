"""
What data may be used for besides a purpose in words: for profit, or not. Two different purposes.

A study says it in its header, or in each [[purpose]]; a specification in [cohort]; a commons in its
terms. Who says nothing means not for profit.
"""

from __future__ import annotations

from typing import Literal

Use = Literal["non-commercial", "commercial"]
NON_COMMERCIAL: Use = "non-commercial"
