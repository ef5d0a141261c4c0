"""Fills in a pod patch as Argo does: twice, with the expression language's functions that Fineline's patches use.

The patches keep to calls, strings, `+`, `==` and `>`, which Python reads as Argo's expression language does.
https://github.com/argoproj/argo-workflows/blob/v4.1.2/workflow/common/util.go (SubstituteParams)
"""

import base64
import json
import re
from types import SimpleNamespace
from typing import Any

TAG = re.compile(r"\{\{=(.*?)\}\}", re.DOTALL)


def filled_in(patch: str, placement: str) -> str:
    """Return the patch as Argo merges it into a pod; an expression that fails stays as it is."""
    for _ in range(2):
        # Argo fills in the inputs themselves first, and each result becomes part of a JSON string.
        patch, placement = _once(patch, None), _once(placement, None)
        patch = _once(patch, placement)
    return patch


def _once(text: str, placement: str | None) -> str:
    def value(match: re.Match[str]) -> str:
        functions: dict[str, Any] = {
            "asInt": int,
            "toJson": json.dumps,
            "jsonpath": lambda document, path: json.loads(document)[path.removeprefix("$.")],
            "sprig": SimpleNamespace(regexReplaceAll=_replace, ternary=_ternary, b64dec=_decode),
        }
        if placement is not None:
            functions["inputs"] = SimpleNamespace(parameters=SimpleNamespace(placement=placement))
        try:
            return str(eval(match[1], {"__builtins__": {}}, functions))
        except Exception:
            return match[0]

    return TAG.sub(value, text)


def _replace(pattern: str, text: str, by: str) -> str:
    return re.sub(pattern, by, text)


def _ternary(first: str, second: str, condition: bool) -> str:
    return first if condition else second


def _decode(text: str) -> str:
    return base64.b64decode(text).decode()
