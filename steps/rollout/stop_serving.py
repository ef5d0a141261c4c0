"""The stop_serving step: deletes what serves a model in this namespace. Its versions stay registered."""

from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.runtime import cluster_settings
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.rollout.lease.right import Purpose
from steps.rollout.lease.serving_lease import serving_lease
from steps.rollout.pods.model_objects import ModelObjects, highest_fence
from steps.rollout.vllm import base_server


class StopServingInput(Input):
    """The model."""

    name: Annotated[str, Parameter(description="Name of the model")]


class StopServingOutput(Output):
    """What was done."""

    stopped: str


@step
def stop_serving(input: StopServingInput) -> StopServingOutput:
    """Take the traffic of a model away, then delete its Deployments; a rollout that is under way ends first. Safe to repeat.

    Raises:
        UserError: an object of the model's name belongs to somebody else, or the cluster does not answer.
    """
    model = input.name
    with serving_lease(model, Purpose.ROLLOUT, 0, lambda: highest_fence(model)) as lease:
        api = ModelObjects(model, lease)
        api.claim()
        served = [one["metadata"]["name"] for one in api.deployments()]
        api.delete_traffic()
        for name in served:
            api.delete_version(name)
        if cluster_settings.vllm_image():
            base_server.stop_unused()
    stopped = f"{model} is not served any more: {', '.join(served)} deleted" if served else f"{model} was not served"
    say(stopped)
    return StopServingOutput(stopped=stopped)
