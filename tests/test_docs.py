"""What the documents say exists, and what exists is documented."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

CHECKOUT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")])
SCRIPTS: dict[str, str] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]["scripts"]
TARGETS = set(
    re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
)


def _program(name: str) -> Any:
    module, _, app = SCRIPTS[name].partition(":")
    return typer.main.get_command(getattr(import_module(module), app))


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        if not inner.hidden:
            yield from _leaves(inner, (*path, name))


def _code(document: Path) -> Iterator[str]:
    """Yield the lines of code blocks, continuations joined, and the pieces of inline code."""
    text = document.read_text(encoding="utf-8")
    for block in re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (piece.replace("\n", " ") for piece in re.findall(r"`([^`]+)`", prose))


def _said() -> list[tuple[str, list[str]]]:
    """Return (document, words) of each command line that a document shows."""
    said = []
    for document in DOCUMENTS:
        for line in _code(document):
            # Programs also behind others (`docker compose run ... broker`); make by itself.
            match = re.search(
                rf"(?<![\w./-])(?:{'|'.join(SCRIPTS)})(?=\s+[\w-])|^make(?=\s+[\w-])", line
            )
            if match:
                try:
                    words = shlex.split(line[match.start() :], comments=True)
                except ValueError:
                    continue  # prose in code marks
                said.append((str(document.relative_to(CHECKOUT)), words))
    return said


def _explain(document: str, words: list[str]) -> str | None:
    """Return what is wrong with a command line, None if it could be run."""
    program, *rest = words
    if program == "make":
        targets = [word for word in rest if "=" not in word and not word.startswith("-")]
        missing = [word for word in targets[:1] if word not in TARGETS]
        return f"there is no make target {missing[0]!r}" if missing else None
    command, path = _program(program), [program]
    while hasattr(command, "commands"):
        if not rest or rest[0].startswith("-") or rest[0] == "...":
            return None  # the program or group as such
        path.append(rest.pop(0))
        command = command.commands.get(path[-1].rstrip(",.;:"))
        if command is None:
            return f"there is no command {' '.join(path)!r}"
    known = {
        o for parameter in command.params for o in (*parameter.opts, *parameter.secondary_opts)
    }
    for word in rest:
        option = word.strip("[](),.;").partition("=")[0]
        if option.startswith("--") and option != "--help" and option not in known:
            return f"{' '.join(path)!r} has no option {option!r}"
    return None


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_every_command_is_documented(name: str) -> None:
    shown = {
        tuple(words[: depth + 1]) for _, words in _said() for depth in range(1, min(4, len(words)))
    }
    shown |= {(words[0],) for _, words in _said()}
    missing = [
        " ".join(path) for path, _ in _leaves(_program(name), (name,)) if tuple(path) not in shown
    ]
    assert not missing, "add them to a page in docs/"


def test_every_command_at_a_site_can_be_tried_first() -> None:
    without = [
        " ".join(path)
        for path, command in _leaves(_program("linkage-site"), ("linkage-site",))
        if not any("--dry-run" in parameter.opts for parameter in command.params)
    ]
    assert not without, "give them sites.terminal.DryRun"


def test_every_command_in_the_documents_exists() -> None:
    said = _said()
    assert len(said) >= 20  # else the documents are not read as they should be
    wrong = [f"{doc}: {fault}" for doc, words in said if (fault := _explain(doc, words))]
    assert not wrong


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("linkage evaluate ids truth.csv --html report.html", None),
        ("linkage evaluates ids", "there is no command 'linkage evaluates'"),
        ("linkage evaluate --ids DIR", "'linkage evaluate' has no option '--ids'"),
        ("make test ARGS=-x", None),
        ("make tests", "there is no make target 'tests'"),
    ],
)
def test_the_check_itself(line: str, fault: str | None) -> None:
    assert _explain("here", line.split()) == fault


def test_the_readme_sets_up_with_its_two_commands() -> None:
    commands = [words for document, words in _said() if document == "README.md"]
    assert ["make", "demo"] in commands
    assert ["make", "test"] in commands


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            assert (document.parent / target.partition("#")[0]).exists(), target


def _headings(document: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_into_a_page_name_a_heading_of_it(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        page, _, anchor = target.partition("#")
        at = document.parent / page if page else document
        if anchor and not re.match(r"[a-z]+:", target) and at.suffix == ".md":
            assert anchor in _headings(at), target


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (document.parent / target.partition("#")[0]).resolve()
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target)
    }
    pages = [page for page in DOCUMENTS if page.parent == CHECKOUT / "docs"]
    assert not [page.name for page in pages if page.resolve() not in linked]
