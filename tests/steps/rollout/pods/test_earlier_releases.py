"""Pods of earlier releases start with this release's image: with the tag that they name, or with a new pod of theirs."""

from importlib.util import find_spec
from typing import Any

import pytest

from tests.cluster.golden_objects import of_0_1_0


def commands(content: Any) -> list[list[str]]:
    """Return all commands in an object."""
    if isinstance(content, dict):
        own = [content["command"]] if "command" in content else []
        return own + [found for value in content.values() for found in commands(value)]
    if isinstance(content, list):
        return [found for value in content for found in commands(value)]
    return []


modules = {
    command[index + 1]
    for document in of_0_1_0("store")
    for command in commands(document)
    for index, word in enumerate(command)
    if word == "-m"
}


def test_the_commands_are_found() -> None:
    assert modules == {"steps.rollout.gateway", "steps.rollout.drain"}


@pytest.mark.parametrize("module", sorted(modules))
def test_a_module_that_0_1_0_executes_can_be_executed(module: str) -> None:
    found = find_spec(module)
    assert found is not None
    assert not found.submodule_search_locations or find_spec(f"{module}.__main__")
