"""The rooms of `docs/design.md`, checked against the imports: direction, size, and unique names."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "pipelines", "presets", "recipes", "steps")
LARGEST_ROOM = 13
# Users know these names: a command and a workflow may share one, and every step has its `step.py`.
KNOWN_TO_USERS = ("pipelines/commands/", "pipelines/workflows/")


def _modules() -> dict[str, Path]:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {_name(file): file for file in files}


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = _modules()


def _imports(file: Path) -> Iterator[str]:
    """Yield the modules of this repository that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _room(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


ARROWS = {(module, other) for module, file in MODULES.items() for other in _imports(file) if other in MODULES}


def _within(room: str, folder: str) -> bool:
    return room == folder or room.startswith(f"{folder}.")


def _breaking(sources: str, *targets: str) -> list[str]:
    """Return the imports that lead from a package into any of the others."""
    return [
        f"{module} imports {other}"
        for module, other in sorted(ARROWS)
        if _within(module, sources) and any(_within(other, target) for target in targets)
    ]


def test_the_packages_import_in_one_direction() -> None:
    assert _breaking("presets", "recipes", "steps", "pipelines") == []
    assert _breaking("recipes", "steps", "pipelines") == []
    assert _breaking("steps", "pipelines") == []


def test_only_its_command_knows_the_api() -> None:
    others = [arrow for package in PACKAGES if package != "api" for arrow in _breaking(package, "api")]
    assert {arrow.partition(" ")[0] for arrow in others} == {"pipelines.commands.api"}
    assert _breaking("api", "pipelines.command", "pipelines.commands") == []


def test_no_step_imports_another_and_no_concern_imports_a_step() -> None:
    steps = {name.split(".")[1] for name in MODULES if name.startswith("steps.")} - {"common"}
    assert {"plan", "tune", "rollout"} <= steps
    for step in steps:
        assert _breaking(f"steps.{step}", *(f"steps.{other}" for other in steps - {step})) == []
        assert _breaking("steps.common", f"steps.{step}") == []


def test_the_cluster_imports_nothing_of_the_run_on_one_machine() -> None:
    assert _breaking("pipelines.cluster", "pipelines.machine") == []
    assert _breaking("pipelines.shown", "pipelines.machine", "pipelines.cluster", "pipelines.commands") == []


def test_each_concern_imports_only_those_above_it_in_the_design() -> None:
    design = (ROOT / "docs" / "design.md").read_text()
    table = design.partition("### steps/common")[2].partition("\n###")[0]
    concerns = [
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)/`", row)
    ]
    assert sorted(concerns) == sorted(
        folder.name for folder in (ROOT / "steps" / "common").iterdir() if (folder / "__init__.py").exists()
    )
    for place, concern in enumerate(concerns):
        below = [f"steps.common.{other}" for other in concerns[place + 1 :]]
        assert _breaking(f"steps.common.{concern}", *below) == []


def test_each_room_of_the_api_imports_only_those_above_it_in_the_design() -> None:
    design = (ROOT / "docs" / "design.md").read_text()
    table = design.partition("### api")[2].partition("\n##")[0]
    rooms = [
        [f"api.{name}" for name in re.findall(r"`(\w+)/`", row)]
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    ]
    assert sorted(room for row in rooms for room in row) == sorted(
        f"api.{folder.name}" for folder in (ROOT / "api").iterdir() if (folder / "__init__.py").exists()
    )
    beside = [name for name, file in MODULES.items() if _room(name) == "api" and file.name != "__init__.py"]
    for place, row in enumerate([beside, *rooms]):
        for room in row:
            below = [other for later in rooms[max(place - 1, 0) :] for other in later if other != room]
            assert _breaking(room, *below) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    reached: dict[str, set[str]] = defaultdict(set)
    for module, other in ARROWS:
        if _room(module) != _room(other):
            reached[_room(module)].add(_room(other))
    while True:
        grown = {
            room: found | {far for near in found for far in reached.get(near, ())} for room, found in reached.items()
        }
        if grown == reached:
            break
        reached = defaultdict(set, grown)
    assert sorted(room for room, found in reached.items() if room in found) == []


def test_a_room_holds_about_a_dozen_modules() -> None:
    sizes: dict[str, int] = defaultdict(int)
    for module, file in MODULES.items():
        if file.name != "__init__.py":
            sizes[_room(module)] += 1
    assert {room: size for room, size in sizes.items() if size > LARGEST_ROOM and room != "pipelines.commands"} == {}


def test_a_module_is_found_by_its_name_alone() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for file in MODULES.values():
        path = str(file.relative_to(ROOT))
        if file.name not in ("__init__.py", "step.py") and not path.startswith(KNOWN_TO_USERS):
            places[file.stem].append(path)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_a_class_name_occurs_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
