"""What the portal brings from others is what they published."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

HPKE = Path(__file__).parents[3] / "broker" / "web" / "static" / "hpke"


def test_hpke_is_as_published_but_for_one_address() -> None:
    lines = (HPKE / "SHA256SUMS").read_text().splitlines()
    wanted = {name: digest for digest, name in (line.split("  ") for line in lines)}
    found = {}
    for path in (one for one in HPKE.rglob("*") if one.is_file() and one.parent != HPKE):
        name = path.relative_to(HPKE).as_posix()
        text = path.read_bytes()
        if name.startswith("core-"):
            text = re.sub(rb'"[./]+/common-1\.10\.1/mod\.js"', b'"@hpke/common"', text)
        found[name] = hashlib.sha256(text).hexdigest()
    assert found == wanted
    assert all(
        (HPKE / folder / "LICENSE.txt").exists() for folder in ("core-1.9.0", "common-1.10.1")
    )
