"""The names of vLLM's parsers of tool calls: an unknown one would stop vLLM at its start, hours after the plan."""

import re
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

import yaml

from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say


def refuse_unknown_parser(name: str, image: str) -> None:
    """Refuse a parser that vLLM does not have; warn if the image is another than the one whose parsers are known.

    Args:
        name: of the parser; empty: none is used.
        image: vLLM's.

    Raises:
        UserError: with the nearest name.
    """
    if not name or name in (names := _known()["parsers"]):
        return
    version = _known()["vllm"]
    near = get_close_matches(name, names, 1)
    meant = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(sorted(names))}"
    if re.fullmatch(rf"(?:.*/)?vllm-openai:{re.escape(version)}(?:@.*)?", image):  # or a mirror of it
        raise UserError(f"chat.tool_parser: vLLM {version} has no parser {name!r}{meant}")
    say(
        f"warning: chat.tool_parser: vLLM {version} has no parser {name!r}, and whether {image} has it is not known{meant}"
    )


@cache
def _known() -> dict[str, Any]:
    text = resources.files("steps.plan").joinpath("vllm_parsers.yaml").read_text()
    known: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return known
