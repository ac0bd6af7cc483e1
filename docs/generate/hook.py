"""What MkDocs calls while it builds the site.

Adds the pages that are made from the code, mends links that leave docs/, and refuses a site that would load anything
from elsewhere.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generate.asyncapi import asyncapi_page, asyncapi_yaml
from docs.generate.commands import commands_page, environment_page
from docs.generate.python import python_page

ROOT = Path(__file__).resolve().parents[2]

# Pages at the project's root that are pages of the site as well; of the README, the sections that no page has.
FROM_ROOT = {
    "README.md": "limits.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}


# What a browser fetches by itself, unlike a link.
_FETCHED = re.compile(
    r"""<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^"'\s>]+|url\(["']?https?:"""
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code, and those of the project's root."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/environment.md": environment_page(),
        "reference/python.md": python_page(),
        "reference/asyncapi.md": asyncapi_page(),
        "reference/asyncapi.yaml": asyncapi_yaml(),
    }
    for name, page in FROM_ROOT.items():
        pages[page] = (ROOT / name).read_text(encoding="utf-8")
    pages["limits.md"] = _limits(pages["limits.md"])
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def _limits(readme: str) -> str:
    sections = re.split(r"^(?=## )", readme, flags=re.M)
    kept = [next(s for s in sections if s.startswith(f"## {title}\n")) for title in ("Known limits", "Data")]
    return "# Limits and data\n\n" + "".join(kept)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside docs/ into links to the site's page of them, or into plain text."""
    here = posixpath.dirname(page.file.src_uri)
    written_in = "" if page.file.src_uri in FROM_ROOT.values() else posixpath.join("docs", here)

    def mended(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = posixpath.normpath(posixpath.join(written_in, target))
        if (ROOT / path).is_dir():
            path += "/index.md"
        there = FROM_ROOT.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if there:
            return f"[{text}]({posixpath.relpath(there, here or '.')}{anchor})"
        return f"`{path}`" if text == posixpath.basename(path) else text

    return re.sub(r"(?<!!)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)", mended, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Look for anything that a page would load from another host.

    Raises
    ------
    PluginError
        Naming page and address.
    """
    site = Path(config.site_dir)
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        if found := _FETCHED.search(file.read_text(encoding="utf-8")):
            raise PluginError(f"{file.relative_to(site)} loads something from elsewhere: {found[0]}")
