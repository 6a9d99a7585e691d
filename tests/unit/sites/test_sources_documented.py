"""Every example of docs/sources.md is a site file, and every kind and key is in it."""

from __future__ import annotations

import re
from pathlib import Path

from linkage.errors import SiteRefused
from linkage.strict_toml import parse
from sites.config import SiteConfig
from sites.sources.config import KINDS

TEXT = (Path(__file__).parents[3] / "docs" / "sources.md").read_text("utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_examples_are_site_files_of_every_kind() -> None:
    sites = [parse(text, SiteConfig, SiteRefused, file="docs/sources.md") for text in EXAMPLES]
    assert {site.source.kind for site in sites} == set(KINDS)


def test_every_key_is_documented() -> None:
    said = "\n".join(EXAMPLES)
    for kind, model in KINDS.items():
        for name, field in model.model_fields.items():
            key = field.alias or name
            assert re.search(rf"\b{key}\b", said), f"{kind}: {key}"
