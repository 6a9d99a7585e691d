"""A package on this machine: sealed parts and the manifest that lists them, in one folder."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from linkage.errors import PackageRefused
from linkage.messages import Manifest


def load_manifest(package: Path) -> Manifest:
    """Read a package's manifest. Raises PackageRefused."""
    try:
        return Manifest.model_validate_json((package / "manifest.json").read_bytes())
    except (OSError, ValidationError):
        nothing = package.name == "0"  # the newest version where none was made
        raise PackageRefused(
            "nothing is tokenized here yet" if nothing else f"{package} is no package",
            hint="run first: linkage-site tokenize",
        ) from None


def part_file(package: Path, number: int) -> Path:
    """Return the file of sealed part `number`, from 1."""
    return package / f"part-{number:05d}.sealed"
