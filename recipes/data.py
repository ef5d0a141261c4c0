"""The part of a recipe that names the rows to train on."""

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from recipes.recipe_part import RecipePart

TEXT, LIST, PART = "<text>", "<list>", "<part>"  # tags, which stand in the place of an error and are not keys


def _tag(value: Any) -> str | None:
    if isinstance(value, dict | RecipePart):
        return PART
    return TEXT if isinstance(value, str) else LIST if isinstance(value, list) else None


def _one_of(words: str) -> Discriminator:
    return Discriminator(_tag, custom_error_type="wrong_type", custom_error_message=f"input should be {words}")


Place = Annotated[str, Field(min_length=1)]
Places = Annotated[
    Annotated[Place, Tag(TEXT)] | Annotated[list[Place], Field(min_length=1), Tag(LIST)],
    _one_of("a path or an address, or a list of them"),
]


def listed(places: str | list[str]) -> list[str]:
    """Return places as a list."""
    return [places] if isinstance(places, str) else places


class RowSource(RecipePart):
    """Rows with their part in a mixture."""

    source: Places = Field(description="A file, a folder or a pattern, or a list of them, as `data.train` has it.")
    weight: float | None = Field(
        default=None,
        gt=0,
        description="How many times each of its rows is seen per epoch: 2 is twice, 0.5 is half of the rows. Not set: once.",
    )
    share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Portion of its rows among all training rows, in the largest mixture in which no row repeats. Either all "
        "items have a share, with the sum 1, or none has.",
    )

    @model_validator(mode="after")
    def _either(self) -> "RowSource":
        if self.weight is not None and self.share is not None:
            raise ValueError("set weight or share, not both")
        return self

    @property
    def places(self) -> list[str]:
        """The paths and addresses."""
        return listed(self.source)


class Data(RecipePart):
    """The rows to train on, as JSONL, JSON, CSV, TSV, Parquet or Arrow. Their columns determine their form."""

    train: Annotated[
        Annotated[Place, Tag(TEXT)]
        | Annotated[
            list[
                Annotated[
                    Annotated[Place, Tag(TEXT)] | Annotated[RowSource, Tag(PART)],
                    _one_of("a path or an address, or a mapping with source and weight or share"),
                ]
            ],
            Field(min_length=1),
            Tag(LIST),
        ],
        _one_of("a path or an address, or a list of them"),
    ] = Field(
        description="Training rows: a file, a folder or a pattern such as chats/*.jsonl, as a path (relative to the recipe's "
        "folder), https://…, s3://BUCKET/KEY, hf://datasets/ORG/NAME[@REVISION]/PATH or "
        "hf://datasets/ORG/NAME?config=…&split=…. Or a list of them, in which {source: …, weight: …} or {source: …, share: …} "
        "sets the mixture."
    )
    validation: Annotated[
        Annotated[str, Tag(TEXT)] | Annotated[list[Place], Tag(LIST)],
        _one_of("a path or an address, or a list of them"),
    ] = Field(
        default="",
        description="Held-out rows, at the same places. Empty: hold out a share of the training rows.",
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

    @property
    def sources(self) -> list[RowSource]:
        """The sources of training rows."""
        items = [self.train] if isinstance(self.train, str) else self.train
        return [item if isinstance(item, RowSource) else RowSource(source=item) for item in items]

    @property
    def held_out_places(self) -> list[str]:
        """The places of held-out rows; empty: a share of the training rows is held out."""
        return [place for place in listed(self.validation) if place]

    @model_validator(mode="after")
    def _mixture(self) -> "Data":
        shares = [one.share for one in self.sources]
        if None in shares and any(share is not None for share in shares):
            raise ValueError(
                f"train.{shares.index(None)}: has no share, and another source has one; give each source a share"
            )
        total = math.fsum(share for share in shares if share is not None)
        if None not in shares and not math.isclose(total, 1, abs_tol=1e-3):
            raise ValueError(f"train: the shares have the sum {total:g}; it must be 1")
        places = [place for one in self.sources for place in one.places]
        if twice := next((place for place in places if places.count(place) > 1), ""):
            raise ValueError(f"train: {twice} is listed twice; to see its rows more often, give it a weight")
        return self
