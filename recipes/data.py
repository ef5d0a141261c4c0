"""The part of a recipe that names the rows to train on."""

from typing import Literal

from pydantic import Field

from recipes.recipe_part import RecipePart


class Data(RecipePart):
    """The rows to train on, as JSONL, CSV or Parquet. Their columns determine their form."""

    train: str = Field(
        description="File of training rows: a path (relative to the recipe's folder), https://…, s3://BUCKET/KEY or "
        "hf://datasets/ORG/NAME[@REVISION]/PATH."
    )
    validation: str = Field(
        default="",
        description="File of held-out rows, in the same forms. Empty: hold out a share of the training rows.",
    )
    validation_share: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the training rows to hold out when `validation` is empty."
    )
    on_bad_row: Literal["stop", "skip"] = Field(
        default="stop",
        description="What to do with a row that cannot be used: stop the run, or skip and count the row.",
    )
    max_tokens: int = Field(
        default=1024, ge=8, description="Longest row, in tokens. `too_long` says what is done with a longer one."
    )
    too_long: Literal["stop", "skip", "cut"] = Field(
        default="stop",
        description="What to do with a row that is too long. stop: it is a bad row, see `on_bad_row`. skip: leave it out and "
        "count it. cut: end a conversation after the last answer that fits. Answers stay whole: a row whose first one does not "
        "fit is a bad row, and so is a long plain text or pair.",
    )
