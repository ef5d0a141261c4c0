"""Renders a model's chat template as transformers does, without its import, which takes longer than the rest of a plan."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any


class TemplateRenderer:
    """A chat template and the special tokens that it may name, in the place of a tokenizer."""

    def __init__(self, source: str, specials: dict[str, str]) -> None:
        """Store a template and its tokenizer's special tokens by their tasks, such as `bos_token`."""
        self.chat_template = source
        self._specials = specials
        self._compiled: Any = None

    def apply_chat_template(self, messages: Sequence[Any], *, tokenize: bool, **given: Any) -> str:
        """Return messages as text.

        Args:
            messages: as chat templates take them.
            tokenize: is not done here.
            given: what else the template takes.

        Raises:
            Exception: any; a template is a program.
        """
        if tokenize:
            raise NotImplementedError
        if self._compiled is None:
            self._compiled = _environment().from_string(self.chat_template)
        return str(self._compiled.render(messages=messages, **{**self._specials, **given}))


def read_renderer(folder: Path) -> TemplateRenderer:
    """Return the chat template in a tokenizer's folder; an empty one if there is none.

    Raises:
        ValueError, OSError: a file of the tokenizer cannot be read.
    """
    config = _read_json(folder / "tokenizer_config.json")
    file = folder / "chat_template.jinja"
    source: Any = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    if isinstance(source, list):  # several, by name
        named = [one for one in source if isinstance(one, dict) and one.get("name") == "default"]
        source = named[0].get("template") if named else ""
    if source is not None and not isinstance(source, str):
        raise ValueError("the chat template is not a text")
    told = {**_read_json(folder / "special_tokens_map.json"), **config}
    specials = {task: value.get("content") if isinstance(value, dict) else value for task, value in told.items()}
    texts = {task: text for task, text in specials.items() if task.endswith("_token") and isinstance(text, str)}
    return TemplateRenderer(source or "", texts)


def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Marks what the assistant says; here, it only has a scope of its own."""

        tags = {"generation"}

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> str:
    raise ValueError(message)


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; nothing if it is not there.

    Raises:
        ValueError, OSError: it cannot be read, or is no object.
    """
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return found
