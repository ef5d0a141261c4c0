"""What a rollback takes from a version's stored recipe: only what Fineline's own code could have written.

Whoever may write to the registry may change every file and every tag of a version. None of it may choose what a server
executes, which Secrets it reads, or where on a volume a step writes.
"""

import re
from typing import Any

from presets.model_preset import Vllm, model_presets
from steps.common.adapter.vllm_limits import MAX_LORA_RANKS
from steps.common.handover.installation import check_secrets
from steps.common.handover.resolved import Resolved, ServingPlan, Tracking
from steps.common.registry import tracking, versions
from steps.common.runtime.errors import UserError
from steps.common.runtime.redaction import redact
from steps.common.storage.files import SHA256

RUN = r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?"  # a name in Kubernetes, which is a folder on the runs volume
LABEL = r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"  # a value of a node's label
URI = r"[a-z0-9]+://[^\x00-\x1f\x7f]+"


def checked_recipe(resolved: Resolved, version: Any, own_registry: str) -> Resolved:
    """Return the stored recipe of a registered version, tracked in the registry that it comes from.

    Args:
        resolved: as the registry has it.
        version: the registered version.
        own_registry: address of the registry that was asked.

    Raises:
        UserError: it has something that Fineline's own code cannot have written, or that this installation does not allow.
    """
    if why := _fault(resolved, version):
        raise UserError(
            f"{version.name} version {version.version}: its {versions.RESOLVED_FILE} in the registry was changed: {why}; "
            "restore the version from a backup, or choose another version"
        )
    check_secrets(resolved.recipe)
    # An address and a run that are stored say where the version was made, maybe in a registry that is gone.
    here = Tracking(uri=tracking.kept_uri(own_registry), run_id=str(version.run_id or ""))
    return resolved.model_copy(update={"tracking": here})


def _fault(resolved: Resolved, version: Any) -> str:
    """Return the first key that Fineline cannot have written, with its value; empty if there is none."""
    recipe, model, tags = resolved.recipe, resolved.model, version.tags
    if "{{" in resolved.model_dump_json():
        return "it contains '{{', which Argo Workflows would read as a reference"
    for key, value, pattern in (
        ("run", resolved.run, rf"({RUN})?"),
        ("model.digest", model.digest, SHA256),
        ("model.uri", model.uri, URI),
        ("serving_plan.instance_type", resolved.serving_plan.instance_type, LABEL),
    ):
        if not re.fullmatch(pattern, value):
            return f"{key} is {value!r:.80}"
    for key, value, wanted in (
        ("recipe.name", recipe.name, version.name),
        ("model.digest", model.digest, tags.get(versions.BASE_DIGEST, "")),
        ("model.uri", model.uri, tags.get(versions.BASE_URI, "")),
        ("run", resolved.run, tags.get(versions.RUN, "")),
    ):
        if redact(value) != redact(wanted):
            return f"{key} is {value!r:.80}, and {wanted!r:.80} was registered"
    return _serving_fault(resolved.serving_plan, resolved)


def _serving_fault(plan: ServingPlan, resolved: Resolved) -> str:
    serve, with_adapter = resolved.recipe.serve, plan.form == "adapter"
    parsers = {"", resolved.recipe.chat.tool_parser, *(preset.chat.tool_parser for preset in model_presets().values())}
    if resolved.chat.tool_parser not in parsers:
        return f"chat.tool_parser is {resolved.chat.tool_parser!r:.80}, which is in no model preset"
    if unknown := set(plan.arguments) - _known_arguments() - set(resolved.chat.vllm_arguments):
        return f"serving_plan.arguments has {min(unknown)!r:.80}, which is in no model preset"
    vllm = plan.runtime == "vllm"
    for key, value, allowed in (
        ("form", plan.form, ("merged", "adapter") if vllm else ("merged",)),
        ("gpus", plan.gpus, (serve.gpus,) if vllm else (0,)),
        ("replicas", plan.replicas, (serve.replicas, 1)),
        ("rank", plan.rank, MAX_LORA_RANKS if with_adapter else (0,)),
        ("max_adapters", plan.max_adapters, (serve.max_adapters,) if with_adapter else (0,)),
        ("longest", plan.longest, range(2**31)),
    ):
        if value not in allowed:
            return f"serving_plan.{key} is {value!r}, which does not follow from its recipe"
    return ""


def _known_arguments() -> set[str]:
    """Return the options with their values, such as `--load-format=mistral`, that a preset gives to vLLM."""
    presets: list[Vllm] = [preset.vllm for preset in model_presets().values()]
    return {argument for vllm in presets for argument in vllm.arguments}
