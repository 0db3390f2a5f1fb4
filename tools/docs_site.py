"""Hooks of mkdocs.yml: pages that lie outside of docs/, links that are written for the repository, and a
reference that lacks nothing. cnnext has to be installed, for what is compiled has its docstrings there.

A link from docs/LAYERS.md to ../bench/README.md is right in the repository. In the site, whose root is docs/,
it becomes bench/README.md where the site has that file; else its text stays and the link goes.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

import cnnext
from cnnext import _C
from mkdocs.structure.files import File

log = logging.getLogger("mkdocs.hooks.cnnext")
ROOT = Path(__file__).resolve().parent.parent
FROM_OUTSIDE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "bench/README.md",
    "bench/results/README.md",
    "bench/results/*/*.png",
    "examples/**/*.py",
)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_ON_FIRST_USE = "<!-- imported on first use -->"
_COMPILED = re.compile(r"^<!-- compiled: ([\w ]+) -->$", re.MULTILINE)
_CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def site_path(path: str) -> str:
    """Where the site has the repository's file."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def repository_path(uri: str) -> str:
    """Which of the repository's files a page of the site is."""
    if uri == "index.md":
        return "README.md"
    return uri if (ROOT / uri).exists() else f"docs/{uri}"


def on_config(config: Any) -> Any:
    """Puts the pages of docs/ that mkdocs.yml does not name at the end of the guide."""
    named = set(re.findall(r"[\w./-]+\.md", str(config.nav)))
    guide = next(section["Guide"] for section in config.nav if "Guide" in section)
    guide += [page.name for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in named]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds what lies outside of docs/."""
    for pattern in FROM_OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = site_path(path.relative_to(ROOT).as_posix())
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def relinked(markdown: str, uri: str, exists: Any) -> str:
    """The page's markdown with its links as the site needs them; exists(uri) is true of the site's files."""
    here = posixpath.dirname(uri)
    there = posixpath.dirname(repository_path(uri))

    def link(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match.group()
        path, anchor, name = target.partition("#")
        inside = site_path(posixpath.normpath(posixpath.join(there, path)))
        if exists(inside):
            return f"{image}[{text}]({posixpath.relpath(inside, here or '.')}{anchor}{name})"
        if image or not (ROOT / there / path).exists():
            return match.group()  # a broken link: mkdocs says so
        return text

    parts = _CODE.split(markdown)
    return "".join(part if i % 2 else _LINK.sub(link, part) for i, part in enumerate(parts))


def compiled(match: re.Match[str]) -> str:
    """Sections of the extension's functions and classes: mkdocstrings has no source of theirs to read."""
    sections = []
    for name in match.group(1).split():
        value = getattr(_C, name)
        signature = "" if inspect.isclass(value) else str(inspect.signature(value)).replace(", /", "")
        heading = f"## `{name}{signature}` {{ #cnnext.{name} }}"
        sections.append(f"{heading}\n\n{inspect.getdoc(value)}\n")
    return "\n".join(sections)


def imported_on_first_use() -> str:
    """Directives for what `import cnnext` does not import yet: mkdocstrings cannot see it there."""
    heading = "    options:\n      show_root_heading: true\n"
    return "\n".join(f"::: cnnext.{module}.{name}\n{heading}" for name, module in cnnext._FROM.items())


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrites the links of every page, and fills in what is compiled."""
    markdown = _COMPILED.sub(compiled, markdown).replace(_ON_FIRST_USE, imported_on_first_use())
    return relinked(markdown, page.file.src_uri, lambda uri: files.get_file_from_path(uri) is not None)


def on_post_build(config: Any) -> None:
    """Warns of every public function and class that the reference does not have."""
    pages = Path(config["site_dir"], "reference").glob("*.html")
    found = {name for page in pages for name in re.findall(r'id="cnnext\.(?:\w+\.)*(\w+)"', page.read_text())}
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        for directive in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE):
            try:
                module = importlib.import_module(directive)
            except ImportError:  # one function of a module, or torch is not installed
                continue
            for name in getattr(module, "__all__", ()):
                value = getattr(module, name)
                if callable(value) and value.__module__ != "numpy" and name not in found:
                    log.warning("%s.%s is on no page of the reference", directive, name)
