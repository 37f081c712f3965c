"""The law stands alone: it knows nothing of what is to be measured by it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import training.world

FOLDER = Path(training.world.__file__).parent
MAY_IMPORT = {"numpy", "scipy", "msgspec", "polars", *sys.stdlib_module_names}


def modules(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            found.add(str(node.module))
        elif isinstance(node, ast.Call):
            assert "import" not in ast.unparse(node.func), ast.unparse(node)
    return found


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_the_law_imports_nothing_of_ours(file: Path) -> None:
    for module in modules(ast.parse(file.read_text(encoding="utf-8"))):
        ours = module == "training.world" or module.startswith("training.world.")
        assert ours or module.partition(".")[0] in MAY_IMPORT, module


def test_every_file_is_read() -> None:
    assert len(sorted(FOLDER.glob("*.py"))) > 15
    assert not list(FOLDER.glob("*/*.py"))
