"""Build the site: uv run --group docs python tools/build_docs.py [--stage]

Stages ``docs/`` and a generated reference (command line, configuration, API) in ``build/docs``, builds ``build/site``
from it offline and strictly, and checks every link of the built pages. Notebooks become pages with the outputs that
they hold; tools/run_tutorials.py runs them. ``--stage`` stops before the build. Exit code 1 where the build or a link
fails.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import unquote, urldefrag

import click

from sr_cli.config import SECTIONS
from sr_cli.main import COMMANDS, sr
from sr_core.sections import Variants

ROOT = Path(__file__).parent.parent
STAGE, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
LIBRARIES = ("sr_core", "sr_monitor", "sr_reward", "sr_care")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def stage() -> None:
    """Copy ``docs/``, with links to files outside of it made local or plain, and write the reference beside it."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", STAGE)
    for notebook in sorted(STAGE.rglob("*.ipynb")):
        notebook_page(notebook)
    for page in STAGE.rglob("*.md"):
        page.write_text(localized(page.read_text(), ROOT / "docs" / page.relative_to(STAGE), page))
    reference = STAGE / "reference"
    reference.mkdir()
    (reference / "commands.md").write_text(command_page())
    (reference / "configuration.md").write_text(configuration_page())
    for library in LIBRARIES:
        (reference / f"{library}.md").write_text(api_page(library))


def notebook_page(notebook: Path) -> None:
    """Write the page of a notebook beside it, with the outputs that the notebook holds."""
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(str(notebook), {"output_files_dir": f"{notebook.stem}_files"})
    for name, content in resources["outputs"].items():
        path = notebook.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    title, _, rest = text.strip().partition("\n")
    notebook.with_suffix(".md").write_text(f"{title}\n\n[Download the notebook]({notebook.name})\n{rest}\n")


def localized(text: str, source: Path, page: Path) -> str:
    """Images of the repository are copied into the stage; other files outside ``docs/`` are named and not linked."""

    def replace(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        path = (source.parent / target.partition("#")[0]).resolve()
        if "://" in target or target.startswith("#") or path.is_relative_to(ROOT / "docs"):
            return match[0]
        name = path.relative_to(ROOT)
        if not image:
            return f"{label} (`{name}`)" if label != name.name else f"`{name}`"
        copy = STAGE / "images" / name.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
        return f"![{label}]({os.path.relpath(copy, page.parent)})"

    return LINK.sub(replace, text)


def command_page() -> str:
    """The help of every command, as click prints it."""
    parts = [
        "# Command line",
        "Generated from the commands' own help. Exit codes: 0 done, 1 a check failed, 2 bad input,",
    ]
    parts[-1] += " 130 interrupted."
    for name in COMMANDS:
        command = sr.get_command(click.Context(sr), name)
        assert command is not None
        parts += [text for title, found in _with_children(f"sr {name}", command) for text in _help(title, found)]
    return "\n\n".join(parts) + "\n"


def _with_children(title: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield title, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _with_children(f"{title} {name}", child)


def _help(title: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=title, max_content_width=100, terminal_width=100)
    return [f"## {title}", f"```text\n{command.get_help(context)}\n```"]


def configuration_page() -> str:
    """Every section and variant with its keys: type, default, and the comment above the field."""
    parts = [
        "# Configuration",
        "One TOML section per heading, from the dataclasses. A key of another variant is an error.",
    ]
    for name, section in SECTIONS.items():
        parts.append(f"## [{name}]")
        if not isinstance(section, Variants):
            parts += _section(section)
            continue
        parts.append(
            f"`{name}.name` chooses one of {', '.join(f'`{variant}`' for variant in section)}; default: the first."
        )
        for variant in section:
            parts += [f'### {name}.name = "{variant}"', *_section(section[variant])]
    return "\n\n".join(parts) + "\n"


def _section(section: type[Any]) -> list[str]:
    if not is_dataclass(section):
        raise TypeError(f"{section} is no dataclass")
    hints, notes = get_type_hints(section), _comments(section)
    rows = [
        f"| `{field.name}` | `{_kind(hints[field.name])}` | {_default(field)} | {notes.get(field.name, '')} |"
        for field in fields(section)
    ]
    text = _prose(section.__doc__ or "")
    return [text, "\n".join(["| key | type | default | |", "|---|---|---|---|", *rows])] if rows else [text]


def _prose(text: str) -> str:
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join(text.split()))


def _kind(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    literal = re.sub(r"(?:typing\.)?Literal\[([^\]]*)\]", lambda match: match[1].replace(", ", " / "), text)
    return literal.replace("typing.", "").replace("|", "or")


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return "left out" if field.default is None else f"`{field.default!r}`"
    return "" if field.default_factory is MISSING else f"`{field.default_factory()!r}`"


def _comments(section: type[Any]) -> dict[str, str]:
    """The comments right above each field, of the class and those it derives from."""
    found: dict[str, str] = {}
    for kind in reversed([kind for kind in section.__mro__ if is_dataclass(kind)]):
        path = Path(sys.modules[kind.__module__].__file__ or "")
        lines = path.read_text().splitlines()
        tree = next(node for node in ast.parse("\n".join(lines)).body if getattr(node, "name", "") == kind.__name__)
        for node in ast.iter_child_nodes(tree):
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            first = node.lineno - 1
            while lines[first - 1].lstrip().startswith("#"):
                first -= 1
            found[node.target.id] = _prose(" ".join(line.strip(" #") for line in lines[first : node.lineno - 1]))
    return found


def api_page(library: str) -> str:
    """What a library exports, each documented where it is defined."""
    init = ROOT / "packages" / library.replace("_", "-") / "src" / library / "__init__.py"
    tree = ast.parse(init.read_text())
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(library)
        for alias in node.names
    }
    parts = [f"# {library}", _prose(ast.get_docstring(tree) or "")]
    parts += [f"::: {home}.{name}" for name, home in sorted(homes.items())]
    return "\n\n".join(parts) + "\n"


class _Page(HTMLParser):
    """Links and anchors of a built page, and what it would request from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.requests: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.update(value for key in ("id", "name") if (value := values.get(key)))
        if tag == "a" and (link := values.get("href")):
            self.links.append(link)
        loads = values.get("src") or (
            values.get("href") if tag == "link" and values.get("rel") != "canonical" else None
        )
        if loads:
            (self.requests if "://" in loads or loads.startswith("//") else self.links).append(loads)


def broken(site: Path) -> list[str]:
    """Local links and anchors of the built pages that lead nowhere, and loads from other hosts."""
    pages = {path.resolve(): _Page(path.read_text()) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        found += [f"{path.relative_to(site)}: loads {url}" for url in page.requests]
        for link in page.links:
            if "://" in link or link.startswith(("mailto:", "javascript:", "data:")):
                continue
            target, anchor = urldefrag(link)
            to = (path.parent / unquote(target)).resolve() if target else path
            to = to / "index.html" if to.is_dir() else to
            missing = not to.exists() or (anchor and to in pages and unquote(anchor) not in pages[to].anchors)
            if missing and path.name != "404.html":  # its links are relative to wherever the missing page was
                found.append(f"{path.relative_to(site)}: {link}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", action="store_true", help="write build/docs and stop")
    options = parser.parse_args()
    stage()
    if options.stage:
        return 0
    shutil.rmtree(SITE, ignore_errors=True)
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    if code := subprocess.run(build, cwd=ROOT, check=False).returncode:
        return code
    failures = broken(SITE.resolve())
    print("\n".join(failures) or f"{len(list(SITE.rglob('*.html')))} pages in {SITE.relative_to(ROOT)}, no broken link")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
