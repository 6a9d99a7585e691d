"""
Upload a package: announce it, send what the broker misses, confirm. May be repeated at will.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from linkage.errors import PackageRefused
from linkage.messages import DatasetState
from sites.client import BrokerClient
from sites.tokenizer import load_manifest, part_file


def submit(
    package: Path, broker: BrokerClient, progress: Callable[[int, int], None] = lambda done, n: None
) -> DatasetState:
    """
    Send the package in `package`; after an interruption only the missing parts go.

    progress: called with bytes sent and bytes in all. Raises what the broker refuses.
    """
    manifest = load_manifest(package)
    state = broker.open_dataset(manifest)
    total = sum(part.size for part in manifest.parts)
    sent = sum(part.size for part in manifest.parts if part.number not in state.missing)
    progress(sent, total)
    for part in manifest.parts:
        if part.number not in state.missing:
            continue
        try:
            sealed = part_file(package, part.number).read_bytes()
        except OSError:
            raise PackageRefused(
                f"part {part.number} of the package is missing from {package}",
                hint="tokenize again; that makes the next dataset version",
            ) from None
        broker.put_part(manifest, part.number, sealed)
        sent += part.size
        progress(sent, total)
    return broker.complete_dataset(manifest)
