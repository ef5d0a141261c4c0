"""The request that creates a job, as OpenAI's clients send it, with Fineline's own field `recipe`.

The other fields are those of `openai.types.fine_tuning.JobCreateParams`. What Fineline does not support is refused by name.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

AUTO = "auto"
LARGEST_INTEGER = 2**53  # beyond it, programs read the same JSON differently
LARGEST_SEED = 2**31 - 1  # as OpenAI's
MOST_PAIRS, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512  # of metadata, as OpenAI's
LONGEST_RECIPE = 64 << 10  # characters


def _none_from_auto(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ValueError("is an integer beyond 2^53; use a smaller one")
    return None if value == AUTO else value


def _too_large(value: Any, place: str = "") -> str | None:
    """Return the place of an integer in a value that is too large; None if there is none."""
    if isinstance(value, int):
        return place if abs(value) > LARGEST_INTEGER else None
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (_too_large(one, f"{place}.{key}".lstrip(".")) for key, one in inner)
    return next((one for one in found if one is not None), None)


def _or_auto(schema: dict[str, Any]) -> tuple[BeforeValidator, WithJsonSchema]:
    return BeforeValidator(_none_from_auto), WithJsonSchema(
        {"anyOf": [{"const": AUTO, "type": "string"}, schema, {"type": "null"}]}
    )


# None stands for "auto": the recipe's own value.
_epochs, _rows, _number = (
    _or_auto({"type": "integer", "minimum": 1, "maximum": 100}),
    _or_auto({"type": "integer", "minimum": 1, "maximum": 1_000_000}),
    _or_auto({"type": "number", "exclusiveMinimum": 0}),
)
Epochs = Annotated[Annotated[int, Field(strict=True, ge=1, le=100)] | None, *_epochs]
BatchRows = Annotated[Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None, *_rows]
Positive = Annotated[Annotated[float, Field(strict=True, gt=0)] | None, *_number]


class BodyPart(BaseModel):
    """A part of the request. Unknown fields are refused, and so are infinities and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SupervisedHyperparameters(BodyPart):
    """The hyperparameters of supervised fine-tuning."""

    n_epochs: Epochs = Field(default=None, description="Passes over the training rows. auto: the recipe's tune.epochs.")
    batch_size: BatchRows = Field(
        default=None,
        description="Mean number of rows in an optimizer step. auto: the recipe's tune.batch_tokens.",
    )
    learning_rate_multiplier: Positive = Field(
        default=None, description="Multiplies the recipe's tune.learning_rate. auto: 1."
    )


class DpoHyperparameters(SupervisedHyperparameters):
    """The hyperparameters of DPO."""

    beta: Positive = Field(default=None, description="The recipe's tune.beta. auto: its default.")


class SupervisedConfiguration(BodyPart):
    """The configuration of supervised fine-tuning."""

    hyperparameters: SupervisedHyperparameters = SupervisedHyperparameters()


class DpoConfiguration(BodyPart):
    """The configuration of DPO."""

    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class MethodBody(BodyPart):
    """The method of fine-tuning."""

    type: Literal["supervised", "dpo"]
    supervised: SupervisedConfiguration | None = None
    dpo: DpoConfiguration | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_reinforcement(cls, given: Any) -> Any:
        if isinstance(given, dict) and (given.get("type") == "reinforcement" or given.get("reinforcement") is not None):
            raise ValueError(
                "reinforcement fine-tuning is not supported; use supervised, or dpo with chosen and rejected answers"
            )
        return (
            {name: value for name, value in given.items() if name != "reinforcement"}
            if isinstance(given, dict)
            else given
        )

    @model_validator(mode="after")
    def _of_its_type(self) -> "MethodBody":
        other = self.dpo if self.type == "supervised" else self.supervised
        if other is not None:
            name = "dpo" if self.type == "supervised" else "supervised"
            raise ValueError(f"{name} has no effect with the type {self.type}; leave it out, or change the type")
        return self

    @property
    def hyperparameters(self) -> SupervisedHyperparameters:
        """The hyperparameters of the method's type."""
        if self.type == "dpo":
            return (self.dpo or DpoConfiguration()).hyperparameters
        return (self.supervised or SupervisedConfiguration()).hyperparameters

    def in_answers(self) -> dict[str, Any]:
        """Return the method as a job shows it."""
        found = self.hyperparameters.model_dump()
        filled = {name: AUTO if value is None else value for name, value in found.items()}
        return {"type": self.type, self.type: {"hyperparameters": filled}}


class CreateBody(BodyPart):
    """The request to create a fine-tuning job."""

    model: str = Field(
        min_length=1, max_length=512, description="Base model: a preset, hf://ORG/NAME[@REVISION], or pypi://…"
    )
    training_file: str = Field(min_length=1, max_length=64, description="Id of an uploaded file.")
    validation_file: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Id of an uploaded file with held-out rows. Without it, a share of the training rows is held out.",
    )
    method: MethodBody | None = Field(default=None, description="Method of fine-tuning. Without it: supervised.")
    hyperparameters: SupervisedHyperparameters | None = Field(
        default=None,
        deprecated=True,
        description="Hyperparameters of the method `supervised`. Use `method` instead.",
    )
    suffix: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Second part of the model's name, after the team's. A later job with the same suffix makes the next "
        "version of the model. Without it: each job makes a new model.",
    )
    seed: int | None = Field(
        default=None, strict=True, ge=0, le=LARGEST_SEED, description="The recipe's tune.seed. Without it: its default."
    )
    metadata: dict[str, str] | None = Field(
        default=None,
        max_length=MOST_PAIRS,
        description=f"Up to {MOST_PAIRS} pairs: keys of up to {LONGEST_KEY} characters, values of up to {LONGEST_VALUE}.",
    )
    integrations: list[Any] | None = Field(
        default=None, max_length=0, description="Must be empty: integrations are not supported."
    )
    recipe: dict[str, Any] | None = Field(
        default=None,
        description="More keys of Fineline's recipe, such as {'tune': {'rank': 32}}. In the openai client: "
        "extra_body={'recipe': …}.",
    )

    @field_validator("integrations", mode="before")
    @classmethod
    def _no_integrations(cls, given: Any) -> Any:
        if given:
            raise ValueError(
                "not supported, including Weights and Biases; remove the field: the losses are in the job's events, its result "
                "file, and MLflow"
            )
        return given

    @field_validator("metadata")
    @classmethod
    def _short(cls, given: dict[str, str] | None) -> dict[str, str] | None:
        for key, value in (given or {}).items():
            if len(key) > LONGEST_KEY:
                raise ValueError(f"the key {key[:20]}… has {len(key)} characters; shorten it to {LONGEST_KEY}")
            if len(value) > LONGEST_VALUE:
                raise ValueError(f"the value of {key} has {len(value)} characters; shorten it to {LONGEST_VALUE}")
        return given

    @field_validator("recipe")
    @classmethod
    def _text(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            text = json.dumps(given, ensure_ascii=False, allow_nan=False)
            text.encode()
            place = _too_large(given)
        except RecursionError:
            raise ValueError("is nested too deeply; flatten it") from None
        except ValueError:
            raise ValueError("contains a lone surrogate, an infinity, or NaN; remove it") from None
        if place is not None:
            raise ValueError(f"{place} is an integer beyond 2^53; use a smaller one")
        if len(text) > LONGEST_RECIPE:
            raise ValueError(f"has {len(text)} characters; shorten it to {LONGEST_RECIPE}")
        return given

    @model_validator(mode="after")
    def _hyperparameters_once(self) -> "CreateBody":
        if self.method is not None and self.__dict__["hyperparameters"] is not None:
            raise ValueError("hyperparameters and method are both given; move the hyperparameters into method")
        return self

    @property
    def wanted_method(self) -> MethodBody:
        """The method, with the defaults and the deprecated form resolved."""
        if self.method is not None:
            return self.method
        # Not as an attribute: pydantic warns of each use of a deprecated field.
        given = self.__dict__["hyperparameters"] or SupervisedHyperparameters()
        return MethodBody(type="supervised", supervised=SupervisedConfiguration(hyperparameters=given))

    def digest(self) -> str:
        """Return a digest of the request; equal requests have equal digests."""
        content = {**self.__dict__, "method": self.method and self.method.in_answers()}
        given = {name: value.model_dump() if isinstance(value, BaseModel) else value for name, value in content.items()}
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
