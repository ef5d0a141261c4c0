"""The parameters of a run: the few that a person sets in the form of the Argo UI, in the order of the form."""

import json

from hera.workflows import Parameter

from pipelines.workflows.step_pods.reference import reference
from recipes.recipe import Recipe

YES_OR_NO = ["false", "true"]

RUN = [
    Parameter(
        name="recipe",
        value="pet-store",
        description="Recipe as YAML text, or the name of one that ships with Fineline (pet-store)",
    ),
    Parameter(
        name="name",
        value="",
        description="Name of the model that is registered and served; empty: the recipe's",
    ),
    Parameter(name="model", value="", description="Base model: a preset or a URI; empty: the recipe's"),
    Parameter(
        name="data",
        value="",
        description="Training rows: a file, a folder or a pattern on the runs volume, at s3://, https:// or hf://datasets/, or "
        "a list of them, [A, B]; empty: the recipe's",
    ),
    Parameter(
        name="method",
        value="recipe",
        enum=["recipe", "qlora", "lora"],
        description="qlora: 4-bit base; lora: bf16 base; recipe: the recipe's",
    ),
    Parameter(name="epochs", value="", description="Passes over the training rows; empty: the recipe's"),
    Parameter(
        name="capacity",
        value="recipe",
        enum=["recipe", "on-demand", "spot", "spot-first"],
        description="How GPU nodes are bought; recipe: the recipe's",
    ),
    Parameter(
        name="max_cost",
        value="",
        description="Budget in US dollars: a run that would cost more is refused, and one that reaches it is stopped; empty: "
        "the recipe's",
    ),
    Parameter(
        name="serve",
        value="recipe",
        enum=["recipe", "true", "false"],
        description="Serve the new version; recipe: the recipe's",
    ),
    Parameter(
        name="approval", value="false", enum=YES_OR_NO, description="Wait for a person's approval before the rollout"
    ),
    Parameter(
        name="secrets",
        value="fineline",
        description="Prefix of the Secrets that the steps read: NAME-hub, NAME-object-store, NAME-mlflow, NAME-api-key, "
        "NAME-webhook",
    ),
]

SECRETS = next(parameter for parameter in RUN if parameter.name == "secrets")


def references() -> dict[str, str]:
    """Return the references to all parameters of a run by name."""
    return {str(parameter.name): reference(str(parameter.name)) for parameter in RUN}


def as_text(recipe: Recipe) -> str:
    """Return a recipe as the parameter `recipe` holds it: JSON, which is YAML too, with absolute paths and without defaults."""
    return json.dumps(recipe.model_dump(mode="json", exclude_defaults=True))
