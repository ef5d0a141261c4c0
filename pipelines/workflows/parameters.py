"""The parameters of a run: the few that a person sets in the Argo UI's form, in the order in which it shows them."""

from hera.workflows import Parameter

PLACED = "{{inputs.parameters.placement}}"  # the one patch of a pod that only says on which node it runs
YES_OR_NO = ["false", "true"]

RUN = [
    Parameter(
        name="recipe", value="pet-store", description="YAML text of a recipe, or the name of one that ships (pet-store)"
    ),
    Parameter(
        name="name",
        value="",
        description="Name of the registered and served model; empty: as the recipe says. "
        "Runs of one name wait for one another",
    ),
    Parameter(name="model", value="", description="Base model: a preset or a URI; empty: as the recipe says"),
    Parameter(
        name="data",
        value="",
        description="Training rows: a path on the runs volume, s3://, https:// or hf://datasets/; empty: as the recipe says",
    ),
    Parameter(
        name="method",
        value="recipe",
        enum=["recipe", "qlora", "lora"],
        description="qlora: base in 4 bits; lora: base in bf16; recipe: as the recipe says",
    ),
    Parameter(name="epochs", value="", description="Passes over the training rows; empty: as the recipe says"),
    Parameter(
        name="capacity",
        value="recipe",
        enum=["recipe", "on-demand", "spot", "spot-first"],
        description="How GPU nodes are bought; recipe: as the recipe says",
    ),
    Parameter(
        name="max_cost",
        value="",
        description="US dollars: a run that would cost more is refused, one that comes to it is stopped; "
        "empty: as the recipe says",
    ),
    Parameter(
        name="serve",
        value="recipe",
        enum=["recipe", "true", "false"],
        description="Roll the new version out; recipe: as the recipe says",
    ),
    Parameter(
        name="approval", value="false", enum=YES_OR_NO, description="Wait for a person's word before the rollout"
    ),
    Parameter(
        name="secrets",
        value="fineline",
        description="Begin of the names of the Secrets that the steps read: NAME-hub, NAME-object-store, NAME-mlflow, "
        "NAME-api-key, NAME-webhook",
    ),
]


def reference(name: str) -> str:
    """Return Argo's reference to a parameter of the workflow."""
    return f"{{{{workflow.parameters.{name}}}}}"


def references() -> dict[str, str]:
    """Return the reference to every parameter of a run, by name."""
    return {str(parameter.name): reference(str(parameter.name)) for parameter in RUN}
