"""One word, one idea: the word list of docs/architecture.md, and the words that it rules out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from docs.generate.commands import commands_page
from tests.documents import PAGES, ROOT, sources, text_of

# What the list has to explain.
NEEDED = {
    "truth",
    "fault",
    "cause",
    "evidence",
    "alarm",
    "verify",
    "set",
    "repetition",
    "provenance",
    "window",
    "hop",
    "grid",
}


@cache
def word_list() -> dict[str, tuple[str, ...]]:
    """Each word with those that are not used for it."""
    table = text_of("docs/architecture.md").split("| word | meaning | not |\n| --- | --- | --- |\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split(" |")] for row in table.splitlines()]
    return {row[0]: tuple(word.strip() for word in row[2].split(",") if word.strip()) for row in rows}


def ruled_out() -> re.Pattern[str]:
    words = sorted({word for found in word_list().values() for word in found})
    return re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, words))})s?(?![\w-])", re.I)


def prose(text: str) -> str:
    """A text without its code."""
    return re.sub(r"(?ms)^```.*?^```|`[^`]*`", "", text)


def docstrings() -> Iterator[tuple[str, str]]:
    """Docstrings of everything that is public, with where they stand."""
    for path, text in sources().items():
        if path.startswith("tests/"):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (found := ast.get_docstring(node)):
                name = getattr(node, "name", "")
                if not name.startswith("_"):
                    yield f"{path} {name}".strip(), found


def test_the_list_explains_each_word_once_and_rules_out_no_word_of_its_own() -> None:
    words = [word for row in word_list() for word in row.split(", ")]
    assert len(words) == len(set(words))
    assert set(words) >= NEEDED
    assert not set(words) & {word for found in word_list().values() for word in found}


def test_pages_use_the_words_of_the_list() -> None:
    wrong = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if page.name == "architecture.md":
            text = text.split("## Words")[0] + text.split("## Where what lives")[1]
        wrong += [f"{page.relative_to(ROOT)}: {word}" for word in ruled_out().findall(prose(text))]
    assert wrong == []


@pytest.mark.slow
def test_public_docstrings_and_helps_use_the_words_of_the_list() -> None:
    texts = [*docstrings(), ("repstream --help", commands_page())]
    assert len(texts) > 500
    assert [f"{where}: {word}" for where, text in texts for word in ruled_out().findall(prose(text))] == []


def test_a_word_that_is_ruled_out_is_found() -> None:
    found = ruled_out().findall(prose("The Ground truth, ten reps; a represented `rep`."))
    assert found == ["Ground truth", "rep"]
