import importlib.util
import re
import sys
from pathlib import Path

from sr_cli.config import SECTIONS
from sr_cli.main import COMMANDS
from sr_core.sections import keys_of

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("packages/*/README.md")]


def _builder():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "tools" / "build_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_docs"] = module
    spec.loader.exec_module(module)
    return module


def test_every_link_of_the_pages_leads_to_a_file() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_the_reference_has_every_command_and_every_key() -> None:
    builder = _builder()
    commands, configuration = builder.command_page(), builder.configuration_page()
    assert all(f"## sr {name}\n" in commands for name in COMMANDS)
    for name, section in SECTIONS.items():
        text = configuration.split(f"## [{name}]\n")[1].split("\n## ")[0]
        assert all(f"`{key}`" in text or f"`{name}.{key}`" in text for key in keys_of(section))


def test_a_link_that_leads_nowhere_and_a_load_from_elsewhere_are_found(tmp_path: Path) -> None:
    page = (
        '<h1 id="top"></h1><a href="b.html">b</a><a href="#top">t</a><a href="#gone">g</a><script src="https://x/y.js">'
    )
    (tmp_path / "a.html").write_text(page)
    assert _builder().broken(tmp_path) == ["a.html: loads https://x/y.js", "a.html: b.html", "a.html: #gone"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 600
