"""The part of a recipe that names the rows."""

from typing import Literal

from pydantic import Field

from recipes.recipe_part import RecipePart


class Data(RecipePart):
    """The rows to learn from. JSONL, CSV or Parquet; their form is told apart by their columns."""

    train: str = Field(
        description="File of training rows: a path, which if relative starts at the recipe's folder, https://…, "
        "s3://BUCKET/KEY or hf://datasets/ORG/NAME[@REVISION]/PATH."
    )
    validation: str = Field(
        default="", description="File of held-out rows, likewise. Empty: a share of the training rows."
    )
    validation_share: float = Field(default=0.1, gt=0, lt=1, description="Share held out where no file is given.")
    on_bad_row: Literal["stop", "skip"] = Field(
        default="stop", description="A row that cannot be used stops the run, or is skipped and counted."
    )
    max_tokens: int = Field(
        default=1024, ge=8, description="A row longer than this is a bad row; none is cut silently."
    )
