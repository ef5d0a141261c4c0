"""Every command in the documentation is one that exists. The commands are taken out of the text."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster.doctor.secret_settings import SECRETS
from pipelines.command import main, parser
from pipelines.workflows.rendered import BUILDERS
from pipelines.workflows.step_pods.containers import CONTROL_IMAGE, VERSION
from recipes.reader import load, override_of, shipped
from steps.common.nodes.node_request import NAMESPACE_LABEL
from steps.common.runtime import certificates
from steps.rollout.pods.object_names import MODEL_LABEL
from tests.docs.documents import (
    DOCUMENTS,
    PROGRAMS,
    ROOT,
    Command,
    blocks,
    code_spans,
    commands,
    fineline_commands,
    name_of,
)

CLASSES = ("control", "tune", "serve")
TAKE_A_RECIPE = ("run", "plan", "submit", "schedule")
# What runs in seconds, asks nobody, and leaves nothing behind.
OFFLINE = ("plan", "presets", "schema", "runs", "weights")
KNOWN = commands()


def of(*words: str) -> list[Command]:
    return [command for command in KNOWN if tuple(command.words[: len(words)]) == words]


def option(command: Command, *names: str) -> str:
    words = command.words
    return words[next(words.index(name) for name in names if name in words) + 1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documentation's reader has: the examples, and the recipes that it shows."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for block in blocks("yaml"):
        if named := re.match(r"# (\S+\.yaml)\n", block.text):
            (tmp_path / named[1]).parent.mkdir(exist_ok=True)
            (tmp_path / named[1]).write_text(block.text)
    shutil.copy(ROOT / "examples" / "own-data" / "train.jsonl", tmp_path / "chats.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_line_goes_unchecked() -> None:
    assert len(KNOWN) > 50
    for command in KNOWN:
        loop = re.fullmatch(r"for class in (.*); do|done", command.text)
        assert loop or command.words[0] in PROGRAMS, command
        assert not loop or loop[1] in (None, " ".join(CLASSES)), command


@pytest.mark.parametrize("command", fineline_commands(), ids=name_of)
def test_a_fineline_command_parses_and_its_recipe_loads(command: Command, folder: Path) -> None:
    words = command.words[3:]
    if words == ["--version"]:
        return
    parsed = parser().parse_args(words)
    if parsed.command in TAKE_A_RECIPE:
        load(parsed.recipe, dict(override_of(text) for text in parsed.override))


@pytest.mark.parametrize(
    "words",
    sorted(
        {tuple(c.words[3:]) for c in fineline_commands() if c.words[3] in OFFLINE or c.words[3:] == ["serving", "list"]}
    ),
    ids=" ".join,
)
def test_a_command_that_is_quick_runs(words: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert [c for c in fineline_commands() if c.words[3:] == ["--version"]]
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert VERSION in capsys.readouterr().out


def test_what_is_rendered_is_what_the_code_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [c for c in fineline_commands() if c.words[3:] == ["render"]]
    monkeypatch.chdir(ROOT)
    assert main(["render", "--check"]) == 0


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_a_command_in_the_prose_is_one(file: Path) -> None:
    actions: Any = next(action for action in parser()._actions if action.dest == "command")
    for span in code_spans(file):
        words = span.split()
        if words[0] != "fineline" or len(words) == 1 or words[1] == "COMMAND":
            continue
        assert words[1] in actions.choices or words[1].startswith("-"), span
        # A command's name alone stands for the command, whatever arguments it needs.
        if len(words) > 2 or words[1].startswith("-"):
            try:
                parser().parse_args([word.strip("[]") for word in words[1:]])
            except SystemExit as ended:
                assert ended.code == 0, span


def test_each_developers_tool_is_a_dependency_and_each_file_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tools = [re.match(r"[\w-]+", text)[0] for text in project["dependency-groups"]["dev"]]  # type: ignore[index]
    markers = [text.partition(":")[0] for text in project["tool"]["pytest"]["ini_options"]["markers"]]
    others = [command for command in of("uv", "run") if command not in fineline_commands()]
    assert others
    for command in others:
        words = command.words[2:]
        if words[0] == "--with":
            words = words[2:]
        if words[0] == "python":
            script = (ROOT / words[1]).read_text()
            for flag in re.findall(r"--[a-z-]+", " ".join(words[2:])):
                assert f'"{flag}"' in script, command
            continue
        assert words[0] in tools, command
        if "-m" in words:
            assert words[words.index("-m") + 1] in markers, command
        for path in [word for word in words[1:] if "/" in word]:
            assert (ROOT / path).exists(), command


def test_each_image_is_built_as_the_workflows_name_it() -> None:
    dockerfile = (ROOT / "images" / "Dockerfile").read_text()
    for name in CLASSES:
        assert f" AS {name}-libraries" in dockerfile
    built = of("docker")
    assert len(built) >= 2
    for command in built:
        assert command.words[1] == "build", command
        assert (ROOT / option(command, "-f")).is_file()
        setting, _, value = option(command, "--build-arg").partition("=")
        assert f"ARG {setting}" in dockerfile
        assert option(command, "-t").replace(value, "control") == CONTROL_IMAGE
    loaded = of("kind", "load", "docker-image")
    assert loaded
    assert {command.words[3].replace("$class", "control") for command in loaded} == {CONTROL_IMAGE}
    assert {tuple(command.words) for command in of("kind")} == {
        ("kind", "create", "cluster"),
        *(tuple(command.words) for command in loaded),
    }


def test_each_package_is_in_the_images() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {f"!{one}" for one in packages} <= set((ROOT / ".dockerignore").read_text().splitlines())


def test_each_template_and_parameter_of_the_argo_command_exists() -> None:
    submitted = of("argo")
    assert submitted
    for command in submitted:
        assert command.words[1] == "submit"
        template = BUILDERS[option(command, "--from").removeprefix("workflowtemplate/")]().to_dict()
        known = {parameter["name"] for parameter in template["spec"]["arguments"]["parameters"]}
        assert set(re.findall(r"-p ([a-z_]+)=", command.text)) <= known, command


def test_each_kubectl_command_names_what_there_is() -> None:
    for command in of("kubectl"):
        match command.words[1:]:
            case ["create", "namespace", "argo"]:
                pass
            case ["apply", "--server-side", "-n", "argo", "-f", url]:
                assert url.startswith("https://github.com/argoproj/argo-workflows/releases/download/v4."), command
            case ["apply", "--server-side", "-k", "team-b"]:
                assert any("# team-b/kustomization.yaml" in block.text for block in blocks("yaml")), command
            case ["apply", "--server-side", "-k", overlay] | ["delete", "--ignore-not-found", "-k", overlay]:
                assert (ROOT / overlay / "kustomization.yaml").is_file(), command
            case ["create", "secret", "docker-registry", name, "-n", "fineline", *_]:
                assert f"name: {name}}}" in command.file.read_text(), command
            case ["create", "secret", "generic", name, "-n", "fineline", *_]:
                _check_secret(command, name)
            case ["create", "configmap", "fineline-certificates", "-n", "fineline", source]:
                assert source == f"--from-file={certificates.BUNDLE.name}"
            case ["create", "role", "fineline-submit", "-n", "fineline", verb, "--resource=workflows.argoproj.io"]:
                policy = (ROOT / "argo" / "base" / "admission" / "workflows.yaml").read_text()
                assert f"check('{verb.removeprefix('--verb=')}')" in policy, command
            case ["create", "rolebinding", _, "-n", "fineline", role, _]:
                assert role.removeprefix("--role=") in {*_names("Role"), "fineline-submit"}, command
            case ["delete", "namespace", "fineline"]:
                pass
            case ["delete", _, "-l", label] | ["delete", _, "-n", "default", "-l", label]:
                assert label == f"{NAMESPACE_LABEL}=fineline", command
            case ["port-forward", "-n", "fineline", "service/fineline-mlflow", "5000:80"]:
                assert "fineline-mlflow" in _names("Service"), command
            case ["port-forward", "-n", "fineline", "service/fineline-api", "8350:80"]:
                assert "fineline-api" in _names("Service"), command
            case ["exec", "-n", "fineline", "deployment/fineline-api", "--", "fineline", *words]:
                assert "fineline-api" in _names("Deployment"), command
                parser().parse_args(words)
            case ["rollout", "restart" | "status", deployment, "-n", "fineline"]:
                assert deployment.removeprefix("deployment/") in _names("Deployment"), command
            case ["rollout", "restart" | "status", "deployment", "-n", "fineline", "-l", label]:
                assert label == MODEL_LABEL, command
            case ["patch", "secret", "fineline-api-key", "-n", "fineline", "--type=json", "-p", patch]:
                assert json.loads(patch) == [{"op": "remove", "path": "/data/previous"}], command
            case ["port-forward", "-n", "fineline", service, "8360:80"]:
                assert service.removeprefix("service/") == load("pet-store").name
            case ["exec", "-n", "fineline", pods, "-c", "gateway", "--", "python", "-c", script]:
                assert pods == f"service/{load('pet-store').name}", command
                compile(script, str(command), "exec")
            case _:
                pytest.fail(f"not checked: {command}")


def _check_secret(command: Command, name: str) -> None:
    keys = set(re.findall(r"--from-literal=(\w+)=", command.text))
    known = {f"fineline-{one.suffix}": set(one.keys) for one in SECRETS}
    passing = {f"fineline-{one.suffix}": {one.passing} - {""} for one in SECRETS}
    stores = {"fineline-mlflow-store": "mlflow-postgres/storage", "fineline-api-store": "api-postgres/kustomization"}
    if name in stores:
        manifest = (ROOT / "argo" / "components" / f"{stores[name]}.yaml").read_text()
        assert name in manifest
        assert all(key in manifest for key in keys), command
    else:
        assert keys in (known[name], known[name] | passing[name]), command


def _names(kind: str) -> set[str]:
    components = ROOT / "argo" / "components"
    files = (
        ROOT / "argo" / "base" / "accounts.yaml",
        components / "mlflow" / "mlflow.yaml",
        components / "api" / "api.yaml",
    )
    manifests = [one for file in files for one in yaml.safe_load_all(file.read_text())]
    return {one["metadata"]["name"] for one in manifests if one["kind"] == kind}


def test_each_secret_that_the_doctor_knows_is_documented() -> None:
    created = {command.words[4] for command in of("kubectl", "create", "secret") if command.file.suffix == ".md"}
    assert created == {f"fineline-{known.suffix}" for known in SECRETS}


def test_the_exported_file_is_where_the_command_looks_for_it() -> None:
    (command,) = of("llama-cli")
    exported = next(c for c in fineline_commands() if any("export.gguf" in word for word in c.words))
    recipe = load("pet-store", dict([override_of(option(exported, "-o"))]))
    quantisation = recipe.export.gguf.upper()
    assert option(command, "-m").endswith(f"/exports/{recipe.name}/1/{recipe.name}-v1-{quantisation}.gguf")


def test_the_default_recipe_of_the_first_command_ships() -> None:
    assert parser().parse_args(["run"]).recipe in shipped()
