"""Every weakened study file and schema is refused, with place and remedy, by both parsers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from linkage.errors import SchemaRefused, StudyRefused
from linkage.schema import clk_schema, parse_schema
from linkage.study import parse_study
from tests.protocol.downgrades import SCHEMAS, STUDY_FILES, Weaker
from tests.studies import STUDY
from tests.unit.encoding import test_clkhash_lint, test_schema

pytestmark = pytest.mark.threat("T09")


@pytest.fixture
def strong() -> dict[str, Any]:
    study = parse_study(STUDY)
    return copy.deepcopy(clk_schema(study, study.clk[0]))


@pytest.mark.parametrize("weaker", STUDY_FILES, ids=lambda one: one.name)
def test_a_weakened_study_file_is_refused(weaker: Weaker) -> None:
    assert STUDY.count(weaker.old) >= 1
    with pytest.raises(StudyRefused) as refused:
        parse_study(STUDY.replace(weaker.old, weaker.new, 1))
    assert weaker.rule in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_weakened_schema_is_refused(name: str, strong: dict[str, Any]) -> None:
    weaken, place = SCHEMAS[name]
    weaken(strong)
    for source in (strong, json.dumps(strong), json.dumps(strong).encode()):
        with pytest.raises(SchemaRefused) as refused:
            parse_schema(source)
        assert place in str(refused.value)


@pytest.mark.parametrize("name", test_clkhash_lint.WEAKENED)
def test_what_the_lint_of_interchange_finds_the_strict_parser_refuses(name: str) -> None:
    """One corpus, both parsers: a study never encodes by what interchange would warn of."""
    weaken, _ = test_clkhash_lint.WEAKENED[name]
    made = copy.deepcopy(test_clkhash_lint.STRONG)
    for feature, field in zip(
        made["features"], ("first_name", "last_name", "sex", "zip"), strict=True
    ):
        feature["identifier"] = field
        feature["format"] = {"type": "string"}
        feature.pop("description", None)
    parse_schema(made)
    weaken(made)
    with pytest.raises(SchemaRefused):
        parse_schema(made)


def test_the_corpus_is_as_large_as_promised(
    record_property: Callable[[str, object], None],
) -> None:
    schemas = len(SCHEMAS) + len(test_schema.WEAKENED)
    interchange = len(test_clkhash_lint.WEAKENED)
    record_property("weakened study files", len(STUDY_FILES))
    record_property("weakened schemas", schemas)
    record_property("weakened interchange schemas", interchange)
    record_property("of all of them accepted", 0)
    assert len({one.name for one in STUDY_FILES}) == len(STUDY_FILES) >= 60
    assert schemas >= 60
    assert interchange >= 25
