"""What code a result depends on, so that a stored result is never taken for one of other code."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_OURS = ("microopt.", "microopt_optimizer.", "microopt_testbed.")


@cache
def code_digest(module: str) -> str:
    """Return the digest of a module and of all modules of this project that it imports, directly or not.

    Comments, docstrings and layout do not count.
    """
    trees: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in trees or not f"{name}.".startswith(_OURS):
            continue
        path = _source(name)
        if path is None:  # a name within a module, not a module
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        waiting.extend(_imported(tree))
        trees[name] = ast.dump(_without_docstrings(tree))
    digest = hashlib.sha256()
    for name in sorted(trees):
        digest.update(f"{name}\0{trees[name]}\0".encode())
    return digest.hexdigest()[:16]


def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )
