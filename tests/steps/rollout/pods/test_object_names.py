"""Names of objects in a cluster: those of two models cannot meet, and the number of a version alone does not make one."""

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from recipes.recipe_part import ModelName
from steps.rollout.gateway.upstream import Upstream
from steps.rollout.pods.object_names import of_base_server, version_digest
from steps.rollout.pods.version_objects import VersionSpec, deployment, disruption_budget, rules, service

# A Service's name: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#rfc-1035-label-names
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
MODELS = [
    "a",
    "pet-store",
    "pet-store-v2",
    "pet-store-v2-v1",
    "pet-store--v2",
    "a-" * 24 + "a",
    "a-" * 24 + "ab",
    "b" * 50,
]


def version(model: str, number: int, adapter: str = "a" * 64, base: str = "b" * 64) -> VersionSpec:
    return VersionSpec(
        name=model,
        digest=version_digest(model, number, adapter, base),
        image="serve",
        sub_path="merged/x",
        memory_bytes=1 << 30,
        ready_seconds=60,
        rules=rules(model, 600, 4 << 20, 0),
        compute_type="float32",
        api_key_secret="",
        one_node=False,
        upstream=Upstream(port=8000, version=number, run="r", base="hub://a/b", adapter_sha256=adapter),
    )


def test_no_version_of_a_model_has_the_name_of_another_model_or_of_its_version() -> None:
    numbers = (1, 2, 12, 123456)
    names = [version(model, number).full_name for model, number in itertools.product(MODELS, numbers)]
    names.append(of_base_server("0123456789abcdef", ["image"]))
    assert all(DNS_LABEL.fullmatch(name) for name in names)
    assert len({*names, *MODELS}) == len(names) + len(MODELS)
    model = TypeAdapter(ModelName)
    assert [model.validate_python(name) for name in MODELS] == MODELS
    for name in names:
        with pytest.raises(ValidationError):
            model.validate_python(name)


def test_the_names_of_an_installations_own_objects_are_no_models() -> None:
    # A model's Service and its CronWorkflow, which `fineline schedule` creates, have its name.
    root = Path(__file__).parents[4] / "argo"
    found = {
        one["metadata"]["name"]
        for file in root.rglob("*.yaml")
        for one in yaml.safe_load_all(file.read_text())
        if isinstance(one, dict) and one.get("kind") in ("Service", "CronWorkflow")
    }
    assert {"fineline-mlflow", "prune", "reaper", "recover", "retrain"} <= found
    for name in found:
        with pytest.raises(ValidationError, match="is a name that Fineline gives to objects in a cluster"):
            TypeAdapter(ModelName).validate_python(name)


def test_version_1_of_a_registry_that_begins_anew_is_another_version() -> None:
    before, anew = version("store", 1), version("store", 1, adapter="c" * 64)
    other_base = version("store", 1, base="d" * 64)
    assert len({one.full_name for one in (before, anew, other_base)}) == 3
    selector = service("store", "store", before.served)["spec"]["selector"]
    for one in (anew, other_base):
        pods = deployment(one)["spec"]["template"]["metadata"]["labels"]
        assert not selector.items() <= pods.items()


def test_pods_are_selected_by_none_of_0_1_0s_services() -> None:
    """Such a Service selects by the number of the version, and serves on until a new version has passed."""
    pods = deployment(version("store", 1))["spec"]["template"]["metadata"]["labels"]
    assert pods["app.kubernetes.io/version"] == "1"
    assert "fineline.dev/version" not in pods


def test_every_object_of_a_version_carries_its_owner_and_selects_its_pods_alone() -> None:
    spec = version("store", 2)
    made = [deployment(spec), service(spec.full_name, "store", spec.served), disruption_budget(spec, "uid")]
    owner = {"app.kubernetes.io/part-of": "fineline", "fineline.dev/model": "store"}
    pods = made[0]["spec"]["template"]["metadata"]["labels"]
    for one in made:
        assert one["metadata"]["name"] == spec.full_name
        labels = one["metadata"]["labels"]
        assert owner.items() <= labels.items()
        assert (labels["fineline.dev/version"], labels["fineline.dev/version-digest"]) == ("2", spec.digest)
        selector = one["spec"]["selector"]
        assert selector.get("matchLabels", selector).items() <= pods.items()
    assert owner.items() <= pods.items()
    assert "volumes" in json.dumps(pods)
