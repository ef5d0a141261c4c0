"""Names: of a job's base model, of the model that it makes, and of its run."""

import re

from pydantic import TypeAdapter, ValidationError

from api.openai_errors import ApiError
from presets.model_preset import UnknownPresetError, find
from recipes.recipe_part import ModelName

SCHEMES = ("hf://", "pypi://")
LONGEST = 50  # characters of a model's name, as `ModelName` has it
BASE_LENGTH = 22  # of the base model's part in a name without a suffix
UNIQUE, RUN_UNIQUE = 6, 12  # characters that make the name of a model, and of a run, unique


def check_base(model: str) -> None:
    """Refuse a base model that a caller may not name, or that does not exist.

    Raises:
        ApiError: the caller may not name it; the message says what to name.
    """
    if "://" in model:
        if model.startswith(SCHEMES) and not model.startswith("hf://datasets/"):
            return
        raise _refused(
            f"{model}: is not a base model; name a preset, or an address that begins with {' or '.join(SCHEMES)}"
        )
    try:
        find(model)
    except UnknownPresetError as error:
        nearest = f"did you mean {error.nearest!r}? Otherwise, " if error.nearest else ""
        raise _refused(
            f"there is no base model {model!r}; {nearest}name an open model: a preset such as qwen3-8b, or hf://ORG/NAME"
        ) from None


def _refused(message: str) -> ApiError:
    return ApiError(400, message, param="model", code="model_not_found")


def model_name(team: str, suffix: str | None, base: str, unique: str) -> str:
    """Return the name of the model that a job makes.

    Args:
        team: owner of the job; the name begins with it.
        suffix: second part of the name; None: the base model's name and a part of `unique`.
        base: the base model.
        unique: hexadecimal digits that no other job has.

    Raises:
        ApiError: the suffix cannot be a part of a name.
    """
    if suffix is None:
        last = base.split("@")[0].rstrip("/").rpartition("/")[2] if "://" in base else base.partition(":")[0]
        part = _as_name(last)[:BASE_LENGTH].strip("-")
        return "-".join(word for word in (team, part, unique[:UNIQUE]) if word)
    part = _as_name(suffix)
    if not part:
        raise ApiError(
            400, f"suffix: {suffix!r} has no letter from a to z and no digit; choose another suffix", param="suffix"
        )
    name = f"{team}-{part}"
    if len(name) > LONGEST:
        raise ApiError(
            400,
            f"suffix: {part} is too long; after the team's name, it may have {LONGEST - len(team) - 1} characters",
            param="suffix",
        )
    try:
        TypeAdapter(ModelName).validate_python(name)
    except ValidationError:
        raise ApiError(400, f"suffix: the name {name} is reserved; choose another suffix", param="suffix") from None
    return name


def run_name(name: str, unique: str) -> str:
    """Return the name of a job's run. In a cluster, it is the value of a label, so it has at most 63 characters."""
    return f"{name}-{unique[:RUN_UNIQUE]}"


def _as_name(text: str) -> str:
    """Return a text with nothing but lower-case letters, digits, and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
