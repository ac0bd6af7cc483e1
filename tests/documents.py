"""The documentation as tests read it: pages, and what stands in them as code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PACKAGES = (
    "cli", "repstream", "producer", "predictor", "monitor", "store", "training", "demo", "bench", "docs", "grafana", "tests",
)  # fmt: skip


@dataclass(frozen=True)
class Code:
    """A piece of code on a page: words between backticks, or a line of a block."""

    page: str
    text: str
    is_block: bool

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


@cache
def codes() -> tuple[Code, ...]:
    """All code of all pages; a command over several lines is one."""
    return tuple(code for page in PAGES for code in _codes(page))


def _codes(page: Path) -> Iterator[Code]:
    name = page.relative_to(ROOT).as_posix()
    prose: list[str] = []
    block: list[str] = []
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and not re.match(r"\s*([-*|]|\d+\.) ", line)):
            block.append(line)
        else:
            prose.append(line)
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(block))
    yield from (Code(name, line.strip(), True) for line in joined.splitlines() if line.strip())
    for paragraph in "\n".join(prose).split("\n\n"):
        for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", paragraph):
            yield Code(name, " ".join(span.split()), False)


def text_of(name: str) -> str:
    """The content of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def sources() -> dict[str, str]:
    """All Python of the project, by path."""
    return {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
    }


@cache
def names_in(path: str) -> frozenset[str]:
    """What a module defines or imports at its top, and the members of its classes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return frozenset(found)


def missing_part(dotted: str) -> str | None:
    """Return what is not there of a dotted name such as ``repstream.windows.cut.cut``, or None."""
    path = ROOT
    parts = dotted.split(".")
    for i, part in enumerate(parts):
        if (path / f"{part}.py").is_file():
            module = path / f"{part}.py"
            rest = parts[i + 1 :]
        elif (path / part).is_dir():
            path /= part
            continue
        else:
            module, rest = path / "__init__.py", parts[i:]
        if not module.is_file():
            return ".".join(parts[: i + 1])
        known = names_in(module.relative_to(ROOT).as_posix())
        return None if not rest or rest[0] in known else ".".join(parts[: parts.index(rest[0]) + 1])
    return None


def slugs_of(page: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
