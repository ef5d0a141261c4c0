"""Recipes, rows, and Python programs in the documentation are ones that work."""

import ast
import importlib
import json

import pytest

from pipelines.workflows.finetune import build
from recipes.reader import load
from steps.common.rows.forms import to_row
from tests.docs.documents import Block, blocks, name_of

LANGUAGES = ("sh", "yaml", "json", "python")


def test_every_block_is_of_a_language_that_is_checked() -> None:
    text = "".join(block.file.read_text() for block in {block.file: block for block in blocks("sh")}.values())
    fences = {line for line in text.splitlines() if line.startswith("```") and line != "```"}
    assert fences <= {f"```{language}" for language in LANGUAGES}
    assert all(blocks(language) for language in LANGUAGES)


@pytest.mark.parametrize("block", blocks("yaml"), ids=name_of)
def test_a_yaml_block_is_a_recipe(block: Block) -> None:
    load(block.text)


@pytest.mark.parametrize("block", blocks("json"), ids=name_of)
def test_a_json_block_holds_rows(block: Block) -> None:
    for line in block.text.splitlines():
        to_row(json.loads(line))


@pytest.mark.parametrize("block", blocks("python"), ids=name_of)
def test_a_python_block_compiles_and_what_it_imports_exists(block: Block) -> None:
    tree = ast.parse(block.text, str(block))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    for node in imports:
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        else:
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_the_run_that_hera_submits_is_of_a_template_that_takes_its_arguments() -> None:
    (block,) = [block for block in blocks("python") if "hera" in block.text]
    calls = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Assign)]
    assigned = {ast.unparse(node.targets[0]): node.value for node in calls}
    reference = assigned["run.workflow_template_ref"]
    assert isinstance(reference, ast.Call)
    assert ast.literal_eval(reference.keywords[0].value) == build().name
    given = ast.literal_eval(assigned["run.arguments"])
    assert given.keys() <= {parameter["name"] for parameter in build().to_dict()["spec"]["arguments"]["parameters"]}
