"""The API key of a served model in a cluster: a rollout sees whether the version that serves has one, and keeps it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.reader import load
from steps.common.handover.resolved import Resolved
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.rollout.gateway.upstream import Upstream
from steps.rollout.lease.right import Purpose
from steps.rollout.lease.serving_lease import serving_lease
from steps.rollout.places.cluster_place import ClusterPlace
from steps.rollout.pods import version_objects
from steps.rollout.pods.model_objects import highest_fence
from tests.support.kubectl import get, kubectl

SPACE, MODEL = "keys-api-key", "keyed"


@pytest.fixture(scope="module")
def space() -> Iterator[str]:
    kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    kubectl("create", "namespace", SPACE)
    yield SPACE
    kubectl("delete", "namespace", SPACE, "--wait=false")


@pytest.fixture(autouse=True)
def _in_cluster(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_settings, "namespace", lambda: space)
    monkeypatch.setenv("FINELINE_SERVE_IMAGE", "fineline-serve:0.1.0")
    monkeypatch.setenv("FINELINE_API_KEY_DEFAULT", "none")


def serve(secret: str) -> None:
    """Create the objects of version 1, without pods."""
    spec = version_objects.VersionSpec(
        name=MODEL,
        digest="1f3a9c07d2b4e685",
        image="fineline-serve:0.1.0",
        sub_path="merged/x",
        memory_bytes=1 << 20,
        ready_seconds=60,
        rules=version_objects.rules(MODEL, 60, 1 << 20, 0),
        compute_type="float32",
        api_key_secret=secret,
        one_node=False,
        upstream=Upstream(port=version_objects.SERVER_PORT, version=1, run="r", base="b", adapter_sha256="a"),
        replicas=0,
    )
    for body in (version_objects.deployment(spec), version_objects.service(MODEL, MODEL, spec.served)):
        kubectl("apply", "-n", SPACE, "--server-side", "--force-conflicts", "-f", "-", document=body)


def applied(planned: Resolved, folder: Path, **serving: str) -> str:
    """Apply version 2 as a rollout does, and return the name of its Deployment."""
    changes = {"name": MODEL, "secrets": "team", **{f"serve.{key}": value for key, value in serving.items()}}
    resolved = planned.model_copy(update={"recipe": load("pet-store", changes)})
    model = folder / "runs" / "merged" / "x"
    model.mkdir(parents=True, exist_ok=True)
    (model / "model.safetensors").write_bytes(b"weights")
    with serving_lease(MODEL, Purpose.ROLLOUT, 2, lambda: highest_fence(MODEL)) as lease:
        place = ClusterPlace(resolved, 2, model, 7, "digest", model, model, 0, lease)
        place._api.apply_version(place._spec)
        return place._spec.full_name


def test_a_rollback_keeps_the_key_of_what_serves_and_takes_it_from_its_recipes_secret(
    planned: Resolved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("team-api-key")
    with pytest.raises(UserError, match=r"\(the version that serves has one\), and the Secret team-api-key is missing"):
        applied(planned, tmp_path)
    monkeypatch.setenv("FINELINE_API_KEY", "right")
    (gateway,) = get("deployment", applied(planned, tmp_path), SPACE)["spec"]["template"]["spec"]["containers"]
    secrets = [setting["valueFrom"]["secretKeyRef"] for setting in gateway["env"]]
    # The API server leaves out what is false.
    found = [(secret["name"], secret["key"], secret.get("optional", False)) for secret in secrets]
    assert found == [("team-api-key", "key", False), ("team-api-key", "previous", True)]


def test_only_the_recipe_itself_opens_a_model_that_had_a_key(planned: Resolved, tmp_path: Path) -> None:
    serve("team-api-key")
    (gateway,) = get("deployment", applied(planned, tmp_path, api_key="none"), SPACE)["spec"]["template"]["spec"][
        "containers"
    ]
    assert "env" not in gateway or gateway["env"] == []


def test_a_model_that_had_none_stays_open_where_the_installation_says_so(
    planned: Resolved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("")
    applied(planned, tmp_path)
    monkeypatch.delenv("FINELINE_API_KEY_DEFAULT")
    with pytest.raises(UserError, match="the Secret team-api-key is missing or empty; create it with 'kubectl create"):
        applied(planned, tmp_path)
