"""Rooms (folders) and top-level modules of sr_core import in one direction: no circle, not even inside a function."""

from __future__ import annotations

import ast
from pathlib import Path

import sr_core

ROOT = Path(sr_core.__file__).parent


def room_of(module: str) -> str:
    """The room or top-level module that a module of this package belongs to."""
    return module.removeprefix("sr_core").lstrip(".").split(".")[0] or "__init__"


def imports_of(path: Path) -> set[str]:
    """Rooms that a file imports from; imports of types alone count, too."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            rooms |= {room_of(alias.name) for alias in node.names if alias.name.split(".")[0] == "sr_core"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sr_core":
            names = [node.module] if node.module != "sr_core" else [f"sr_core.{alias.name}" for alias in node.names]
            rooms |= {room_of(name) for name in names if name}
    return rooms


def graph() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if place.name == "__init__.py" and len(place.parts) == 1:
            continue  # the package's own names, loaded when asked for
        room = place.parts[0].removesuffix(".py")
        edges[room] = edges.get(room, set()) | (imports_of(path) - {room})
    return edges


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Rooms that import each other in a circle; empty where there is none."""
    done: set[str] = set()

    def walk(room: str, path: list[str]) -> list[str]:
        if room in path:
            return [*path[path.index(room) :], room]
        if room not in done:
            for other in sorted(edges.get(room, ())):
                if found := walk(other, [*path, room]):
                    return found
            done.add(room)
        return []

    return next((found for room in edges if (found := walk(room, []))), [])


def test_rooms_import_in_one_direction() -> None:
    assert circle(graph()) == []


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"d", "b"}}) == ["b", "c", "b"]
    edges = graph()
    edges["policy"].add("trainer")
    assert circle(edges)


def test_every_file_belongs_to_a_room_of_few_files() -> None:
    rooms = [ROOT, *(path for path in ROOT.iterdir() if (path / "__init__.py").exists())]
    crowded = {room.name: len(list(room.glob("*.py"))) for room in rooms if len(list(room.glob("*.py"))) > 15}
    assert not crowded
