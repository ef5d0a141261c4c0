"""The names and labels of everything that serves a model in a cluster. Names of two models cannot meet.

What users talk to is the Service with the model's own name. Every other object's name contains `--` and a hash in a place where
no model's name may have them (`recipes/recipe_part.py`).

pet-store                        the Service with the traffic
pet-store--v2-1f3a9c07           Deployment, Service, and disruption budget of version 2
base--a5dffc7d-03b1c9            Deployment, Service, disruption budget, and autoscaler of a base server
"""

from typing import Any

from steps.common.kubernetes.owner import PART_OF
from steps.common.storage.files import digest_of

MODEL_LABEL, VERSION_LABEL = "fineline.dev/model", "fineline.dev/version"
# What the pods of a version are selected by. With a new registry, version numbers start over.
DIGEST_LABEL = "fineline.dev/version-digest"
SERVER_LABEL = "fineline.dev/base-server"
LONGEST = 63  # characters of a DNS label, which the name of a Service is


def version_digest(model: str, version: int, adapter_sha256: str, base_digest: str) -> str:
    """Return what tells a version apart from every other one, in 16 hex digits."""
    return digest_of([model, version, adapter_sha256, base_digest])[:16]


def of_version(model: str, version: int, digest: str) -> str:
    """Return the name of a version's objects.

    Args:
        model: its name. The end of a long one is left out: the digest differs between models, too.
        version: the registered version.
        digest: from `version_digest`.
    """
    end = f"--v{version}-{digest[:8]}"
    return f"{model[: LONGEST - len(end)].rstrip('-')}{end}"


def of_base_server(base_digest: str, settings: Any) -> str:
    """Return the name of a base server's objects.

    Args:
        base_digest: of the base model.
        settings: as JSON, whatever keeps two servers of a base from taking over each other's adapters.
    """
    return f"base--{base_digest[:8]}-{digest_of(settings)[:6]}"


def owner_of_model(model: str) -> dict[str, str]:
    """Return the labels of all objects of a model."""
    return {**PART_OF, MODEL_LABEL: model}


def owner_of_base_server(name: str) -> dict[str, str]:
    """Return the labels of all objects of a base server."""
    return {**PART_OF, SERVER_LABEL: name}
