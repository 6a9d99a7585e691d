"""
Whatever is stored as a blob is sealed: what the worker stores it seals in the same breath, and what
the server stores it has verified to be sealed by its sender. A new place that stores is found here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

BROKER = Path(__file__).parents[3] / "broker"
SEALS = {"seal", "seal_in_two"}
VERIFIES = {"verify_sealed_stream", "verify_seal"}


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted(BROKER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(BROKER)}:{node.name}", node


def called(node: ast.AST) -> list[str]:
    """The names of what is called in it: the last part of each."""
    names = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
    return [
        name.attr if isinstance(name, ast.Attribute) else name.id
        for name in names
        if isinstance(name, ast.Attribute | ast.Name)
    ]


def puts(node: ast.AST) -> list[ast.Call]:
    """Calls of `...blobs.put(data)`."""
    return [
        one
        for one in ast.walk(node)
        if isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr == "put"
        and ast.unparse(one.func.value).endswith("blobs")
    ]


def keeps(node: ast.AST) -> bool:
    """Does it keep what was received, or call what does?"""
    return any(
        isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr == "keep"
        and ast.unparse(one.func.value) in ("received", "incoming")
        for one in ast.walk(node)
    )


def test_what_the_worker_stores_it_seals() -> None:
    found = {name: node for name, node in functions() if puts(node)}
    assert len(found) >= 3
    for name, node in found.items():
        sealed = {
            target.id
            for one in ast.walk(node)
            if isinstance(one, ast.Assign) and SEALS & set(called(one.value))
            for target in one.targets
            if isinstance(target, ast.Name)
        }
        for one in puts(node):
            data = one.args[0]
            direct = isinstance(data, ast.Call) and bool(SEALS & set(called(data)))
            assert direct or (isinstance(data, ast.Name) and data.id in sealed), name


def test_what_the_server_stores_it_has_verified_to_be_sealed() -> None:
    inside = {"blobs.py:put", "uploads.py:_keep"}
    found = {
        name: node
        for name, node in functions()
        if keeps(node) and not any(name.endswith(one) for one in inside)
    }
    assert len(found) >= 3
    for name, node in found.items():
        assert VERIFIES & set(called(node)), name
    # The one that keeps for another has been handed what that one verified.
    source = (BROKER / "services" / "uploads.py").read_text(encoding="utf-8")
    take = next(n for n in ast.walk(ast.parse(source)) if getattr(n, "name", "") == "take_part")
    text = ast.unparse(take)
    assert text.index("verify_sealed_stream(") < text.index("self._keep(")
