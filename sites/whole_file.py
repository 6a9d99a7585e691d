"""A text file that is there whole or not at all; private ones: private_file."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file, and its folder: whole, or not at all where the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.making")
    try:
        making.write_text(text, encoding="utf-8")
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)
