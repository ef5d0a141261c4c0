"""Recipes, rows, and Python programs in the documentation are ones that work."""

import ast
import importlib
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from pipelines.workflows.finetune import build
from recipes.reader import load
from steps.common.rows.forms import to_row
from tests.docs.documents import ROOT, Block, blocks, name_of
from tests.support.kubectl import BUILT, kubectl

LANGUAGES = ("sh", "yaml", "json", "python")


def test_every_block_is_of_a_language_that_is_checked() -> None:
    text = "".join(block.file.read_text() for block in {block.file: block for block in blocks("sh")}.values())
    fences = {line for line in text.splitlines() if line.startswith("```") and line != "```"}
    assert fences <= {f"```{language}" for language in LANGUAGES}
    assert all(blocks(language) for language in LANGUAGES)


KUSTOMIZATIONS = [block for block in blocks("yaml") if "kind: Kustomization" in block.text]


@pytest.mark.parametrize("block", [one for one in blocks("yaml") if one not in KUSTOMIZATIONS], ids=name_of)
def test_a_yaml_block_is_a_recipe(block: Block) -> None:
    load(block.text)


@pytest.mark.parametrize("block", KUSTOMIZATIONS, ids=name_of)
def test_an_overlay_for_a_second_namespace_names_nothing_of_the_first(block: Block, tmp_path: Path) -> None:
    if not shutil.which("kubectl") and not BUILT.exists():
        pytest.skip("there is no kubectl")
    first = re.match(r"# (\S+/kustomization.yaml)\n", block.text)
    assert first, block
    file = tmp_path / first[1]
    file.parent.mkdir(parents=True)
    file.write_text(block.text)
    (tmp_path / "argo").symlink_to(ROOT / "argo")
    space = yaml.safe_load(block.text)["namespace"]
    text = kubectl("kustomize", str(file.parent)).stdout
    found = list(yaml.safe_load_all(text))
    assert {"Namespace", "ClusterRoleBinding", "ValidatingAdmissionPolicyBinding"} <= {one["kind"] for one in found}
    for one in found:
        metadata = one["metadata"]
        kept = metadata.get("labels", {}).get("fineline.dev/within", space)
        outside = one["kind"].startswith(("Cluster", "ValidatingAdmission")) or kept != space
        assert metadata["name"].endswith(f".{space}") is outside or one["kind"] == "Namespace", metadata
        assert metadata.get("namespace", kept) == kept, metadata
    assert "namespace: fineline\n" not in text
    assert "serviceaccount:fineline:" not in text


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
