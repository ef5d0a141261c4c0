"""Records: what one release stores and a later one reads. Each has a schema number; 0.1.0 stored none, which counts as 0.

A reader takes every earlier schema, and ignores keys that it does not know. Whatever a user or a step's parameter gives is
checked by its own type, which may refuse unknown keys.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import AliasChoices, BaseModel, ValidationError

from steps.common.runtime.errors import UserError

NUMBER = "schema_version"
Upgrade = Callable[[Any], dict[str, Any]]  # from a schema's JSON content to that of the next


class NewerRecordError(UserError):
    """A later release stored the record; this one cannot read it."""


class Record(BaseModel):
    """A stored record.

    To add a key, give it a default. To rename a key or change its meaning, raise the default of `schema_version` and add a
    function to `upgrades`.
    """

    upgrades: ClassVar[dict[int, Upgrade]] = {}  # by the schema that they start from; without one, the content stays

    schema_version: int = 1

    @classmethod
    def read(cls, text: str | bytes, where: str | Path) -> Self:
        """Return the record that this release or an earlier one stored.

        Args:
            text: its JSON.
            where: what the record is, or its file, for messages.

        Raises:
            NewerRecordError: a later release stored it.
            ValueError: it is not such a record.
        """
        return cls.model_validate(cls.upgraded(json.loads(text), where))

    @classmethod
    def upgraded(cls, content: Any, where: str | Path) -> dict[str, Any]:
        """Return a record's JSON content in the current schema, without the keys that this release does not know.

        Raises:
            NewerRecordError: a later release stored it.
            ValueError: its schema number is not a number.
        """
        current: int = cls.model_fields[NUMBER].default
        found = content.get(NUMBER, 0) if isinstance(content, dict) else 0
        if not isinstance(found, int):
            raise ValueError(f"{NUMBER}: {found!r} is not a number")
        if found > current:
            raise NewerRecordError(
                f"{where}: written by a later release: it has schema version {found}, and this release reads up to "
                f"{current}; upgrade Fineline"
            )
        for number in range(found, current):
            if number in cls.upgrades:
                content = cls.upgrades[number](content)
        if not isinstance(content, dict):
            raise ValueError("content: it is not a mapping of keys to values")
        return known_keys(cls, {**content, NUMBER: current})


def known_keys(model: type[BaseModel], content: dict[str, Any]) -> dict[str, Any]:
    """Return JSON content without the keys that a model does not have, at every depth."""
    kept: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        aliases = field.validation_alias
        names = aliases.choices if isinstance(aliases, AliasChoices) else [aliases]
        for key in (name, *(one for one in names if isinstance(one, str))):
            if key in content:
                kept[key] = _of_type(field.annotation, content[key])
    return kept


def _of_type(annotation: Any, value: Any) -> Any:
    """Apply `known_keys` to the models in a value: alone, optional, or in a list, tuple or dictionary."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return known_keys(annotation, value) if isinstance(value, dict) else value
    inner = [one for one in getattr(annotation, "__args__", ()) if one is not type(None)]
    if getattr(annotation, "__origin__", None) is dict:
        return {key: _of_type(inner[1], one) for key, one in value.items()} if isinstance(value, dict) else value
    models = [one for one in inner if _holds_models(one)]
    if not models:
        return value
    if isinstance(value, list):
        return [_of_type(models[0], one) for one in value]
    return _of_type(models[0], value)


def _holds_models(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return any(_holds_models(one) for one in getattr(annotation, "__args__", ()))


def first_fault(error: ValueError) -> str:
    """Return what is wrong with a record in one line: the key and the reason."""
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error}"
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in found["loc"]) or "content"
    return f"{where}: {found['msg']}"
