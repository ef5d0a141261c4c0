"""A version that 0.1.0 has started is served on, and replaced by this release's rollout, under load."""

import json

from tests.cluster.golden_objects import of_0_1_0
from tests.cluster.test_rollout import NAME, Rollouts, _settings, address, rollouts
from tests.support.kubectl import kubectl
from tests.support.load import load, wait_until_answered

__all__ = ["_settings", "rollouts"]  # fixtures: the installed namespace, and the settings of a rollout in it


def test_a_version_that_0_1_0_serves_is_found_and_replaced_without_a_failed_request(rollouts: Rollouts) -> None:
    model = rollouts.model(1, seed=1)
    rollouts.send(model)
    space = rollouts.namespace
    for document in of_0_1_0(NAME, merged="merged/version-1"):
        kubectl("apply", "-n", space, "-f", "-", document=document)
    kubectl("rollout", "status", f"deployment/{NAME}-v1", "-n", space, "--timeout=240s")
    second = rollouts.model(2, seed=2)
    rollouts.send(second)
    asked = rollouts.asked(second)
    url = address(space, NAME)
    wait_until_answered(url)
    with load(url, NAME, max_tokens=4) as met:
        rollouts.roll_out(2, second, asked)
    assert rollouts.told.old_version == 1
    assert met.failures == []
    assert met.answers.keys() == {"1", "2"}
    stopped = ["get", "deployments", "-n", space, "-l", f"fineline.dev/model={NAME}", "-o", "json"]
    replicas = {one["spec"]["replicas"] for one in json.loads(kubectl(*stopped).stdout)["items"]}
    assert replicas == {0, 1}
