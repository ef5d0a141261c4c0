"""The recipe: everything that a user can set for a run, in one typed model.

Unknown keys are errors. `recipes.reader` reports each in one line with the nearest known key.
"""

from pydantic import Field, model_validator

from recipes.chat import ChatSettings
from recipes.compute import Compute
from recipes.data import Data
from recipes.evaluation import Evaluate, Gate
from recipes.recipe_part import ModelName, Name, RecipePart
from recipes.serving import Export, Registry, Serve
from recipes.tuning import Tune


class Recipe(RecipePart):
    """What a run should do: model, data, tuning, evaluation, registry, serving, and the compute that it may use."""

    name: ModelName = Field(
        description="Name of the model that the run registers and serves: lower-case letters, digits and dashes, starting "
        "with a letter. In a cluster it is the name of the Service."
    )
    model: str = Field(
        default="smollm2-135m-instruct:pypi",
        min_length=1,
        description="Base model: a preset, hf://ORG/NAME[@REVISION], s3://, gs:// or az://BUCKET/FOLDER, "
        "https://HOST/FOLDER/, file:///FOLDER or pypi://PACKAGE==VERSION/FILE.gguf.",
    )
    chat: ChatSettings = ChatSettings()
    data: Data
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()
    registry: Registry = Registry()
    serve: Serve = Serve()
    export: Export = Export()
    compute: Compute = Compute()
    secrets: Name = Field(
        default="fineline",
        description="Prefix of the Secrets that the steps read in a cluster, as far as they exist: NAME-hub, "
        "NAME-object-store, NAME-mlflow, NAME-api-key and NAME-webhook. The setting FINELINE_SECRETS names those that are "
        "allowed.",
    )

    @property
    def places(self) -> dict[str, list[str]]:
        """The paths and addresses of the rows, by key."""
        tasks = {f"evaluate.tasks.{number}.data": task.places for number, task in enumerate(self.evaluate.tasks)}
        train = [place for source in self.data.sources for place in source.places]
        return {"data.train": train, "data.validation": self.data.held_out_places, **tasks}

    @model_validator(mode="after")
    def _no_workflow_references(self) -> "Recipe":
        # Argo Workflows replaces {{...}} inside a parameter's value and offers no way to escape it
        # (https://github.com/argoproj/argo-workflows/issues/2430).
        if "{{" in self.model_dump_json():
            raise ValueError("a recipe may not contain '{{': Argo Workflows would read it as a reference")
        return self
