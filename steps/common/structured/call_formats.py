"""The formats in which models write calls of tools.

Each function returns the calls in a text, and an empty list if the text has none in its format. It raises BrokenCallError if
the text begins a call that cannot be read. Special tokens must not have been dropped from the text: many are a format's marks.
"""

import ast
import json
import re
from typing import Any

from steps.common.structured.json_answer import NotJsonError, UntypedText, parse_json
from steps.common.structured.parsed_call import BrokenCallError, ParsedCall, call_of

TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
FUNCTION = re.compile(r"<function=([^>\n]+)>(.*?)(</function>|$)", re.DOTALL)
PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
LLAMA_BEGIN = re.compile(
    r'\s*\[?\{\s*"(?:type"\s*:\s*"function"\s*,\s*")?name"\s*:\s*"[^"]*"\s*,\s*"(?:parameters|arguments)"'
)
MISTRAL = "[TOOL_CALLS]"
MISTRAL_NAMED = re.compile(r"\s*([\w.-]+)(?:\[CALL_ID\][\w-]*)?(?:\[ARGS\])?\s*(?=\{)")
# DeepSeek writes a fullwidth bar and, for a space, a low block.
CALLS_BEGIN, CALL_BEGIN, CALL_SEP, CALL_END = (
    f"<\uff5ctool\u2581{name}\uff5c>" for name in ("calls\u2581begin", "call\u2581begin", "sep", "call\u2581end")
)
DEEPSEEK = re.compile(f"{CALL_BEGIN}(.*?){CALL_SEP}(.*?)(?:{CALL_END}|(?={CALL_BEGIN})|$)", re.DOTALL)
FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
HARMONY = re.compile(
    r"to=(?:functions\.)?([\w.-]+)[^{]*?<\|message\|>(.*?)(?:<\|call\|>|<\|end\|>|<\|start\|>|$)", re.DOTALL
)
PYTHONIC_MARKS = re.compile(r"<\|python_start\|>|<\|python_end\|>|</?function_calls>|```(?:tool_code|python)?")


def tagged_json(text: str) -> list[ParsedCall]:
    """Read `<tool_call>{"name": …, "arguments": …}</tool_call>` (Hermes, Qwen), or a list of them in the tag (SmolLM2)."""
    return [call for body in TAGGED.findall(text) for call in _from_json(body)]


def tagged_xml(text: str) -> list[ParsedCall]:
    """Read `<function=NAME><parameter=KEY>VALUE</parameter></function>` (Qwen3-Coder), whose values have no types."""
    calls = []
    for name, body, end in FUNCTION.findall(text):
        if not end:
            raise BrokenCallError(f"the call of {name} does not end")
        calls.append(
            ParsedCall(name.strip(), {key.strip(): UntypedText(value) for key, value in PARAMETER.findall(body)})
        )
    if not calls and "<function" in text:
        raise BrokenCallError("a call has no name")
    return calls


def llama_json(text: str) -> list[ParsedCall]:
    """Read `{"name": …, "parameters": …}`, perhaps after `<|python_tag|>`, several with semicolons between (Llama 3).

    Without that mark, an object needs `parameters` or `arguments` too: many an answer in JSON has a name.
    """
    _, mark, after = text.partition("<|python_tag|>")
    body = after if mark else text
    if not body.lstrip().startswith(("{", "[{")):
        if mark:
            raise BrokenCallError("no JSON follows <|python_tag|>")
        return []
    try:
        values = _json_values(body)
        if mark or all(map(_has_arguments, values)):
            return [_from_object(value) for value in values]
    except BrokenCallError:
        if mark or LLAMA_BEGIN.match(body):
            raise
    return []  # JSON that calls nothing


def mistral(text: str) -> list[ParsedCall]:
    """Read `[TOOL_CALLS] [{"name": …, "arguments": …}]` and the newer `[TOOL_CALLS]NAME[ARGS]{…}` (Mistral)."""
    calls: list[ParsedCall] = []
    for body in text.split(MISTRAL)[1:]:
        if not (named := MISTRAL_NAMED.match(body)):
            calls += _from_json(body)
        while named:
            value, end = _leading_json(body, named.end())
            calls.append(call_of(named[1], value))
            body = body[end:]
            named = MISTRAL_NAMED.match(body)
    return calls


def marked_json(text: str) -> list[ParsedCall]:
    """Read a list of calls as JSON after `functools` or `<|tool_call|>` (Phi-4-mini, Granite)."""
    for mark in ("functools", "<|tool_call|>"):
        _, found, body = text.partition(mark)
        if found and body.lstrip().startswith(("[", "{")):
            return _from_json(body.partition("<|/tool_call|>")[0])
        if found and mark.startswith("<"):
            raise BrokenCallError(f"no JSON follows {mark}")
    return []


def deepseek(text: str) -> list[ParsedCall]:
    """Read DeepSeek's marks, with JSON in a fence (V3, R1) or without (V3.1)."""
    calls = []
    for first, second in DEEPSEEK.findall(text):
        name, body = first, second
        if first.strip() == "function" and "\n" in second:
            name, _, body = second.partition("\n")
        fenced = FENCED.fullmatch(body)
        calls.append(call_of(name, (fenced[1] if fenced else body).strip()))
    if not calls and (CALLS_BEGIN in text or CALL_BEGIN in text):
        raise BrokenCallError("DeepSeek's marks have no call between them")
    return calls


def harmony(text: str) -> list[ParsedCall]:
    """Read messages to `functions.NAME` (gpt-oss)."""
    return [call_of(name, body.strip()) for name, body in HARMONY.findall(text)]


def pythonic(text: str) -> list[ParsedCall]:
    """Read calls as Python writes them, `[f(a=1), g()]`, perhaps in marks or a fence (Llama 3.2 and 4, OLMo 3, Gemma 3).

    Only literals are read, and nothing is executed.
    """
    marked = bool(PYTHONIC_MARKS.search(text))
    source = PYTHONIC_MARKS.sub("", text).strip()
    lines = source.splitlines() if marked and not source.startswith("[") else [source]
    try:
        trees = [ast.parse(line.strip(), mode="eval").body for line in lines if line.strip()]
        nodes = [node for tree in trees for node in (tree.elts if isinstance(tree, ast.List) else [tree])]
        if not marked and not all(isinstance(tree, ast.List) for tree in trees):
            return []
        return [_python_call(node) for node in nodes]
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        if re.match(r"\[\s*[A-Za-z_][\w.]*\(", source):
            raise BrokenCallError("the list of calls is not Python") from None
        return []


def _python_call(node: ast.expr) -> ParsedCall:
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("not a call with named arguments")
    arguments = {str(keyword.arg): _json_literal(keyword.value) for keyword in node.keywords}
    return ParsedCall(ast.unparse(node.func), arguments)


def _json_literal(node: ast.expr) -> Any:
    """Return a literal as a JSON value; `true`, `false` and `null` too, which some models write."""
    if isinstance(node, ast.Name) and node.id in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_json_literal(one) for one in node.elts]
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        if len(keys) != len(node.values) or not all(isinstance(key, str) for key in keys):
            raise ValueError("not an object of JSON")
        return dict(zip(keys, map(_json_literal, node.values), strict=True))
    value = ast.literal_eval(node)
    if not isinstance(value, str | int | float | bool | None):
        raise ValueError("not a value of JSON")
    return value


def _from_json(text: str) -> list[ParsedCall]:
    """Read calls in JSON objects, or in lists of them, that only spaces, commas, or semicolons separate."""
    return [_from_object(value) for value in _json_values(text)]


def _json_values(text: str) -> list[Any]:
    values: list[Any] = []
    place = 0
    while place < len(text):
        if text[place] in " \t\r\n;,":
            place += 1
            continue
        value, place = _leading_json(text, place)
        values += value if isinstance(value, list) else [value]
    if not values:
        raise BrokenCallError("a call is empty")
    return values


def _leading_json(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins at a place, and the place of its end."""
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
        return parse_json(text[start:end]), end
    except (ValueError, RecursionError, NotJsonError) as error:
        raise BrokenCallError(f"a call is not JSON: {error}") from None


def _has_arguments(value: Any) -> bool:
    called = _called(value)
    return isinstance(called, dict) and bool(called.keys() & {"arguments", "parameters"})


def _called(value: Any) -> Any:
    """Return what has the name and the arguments: OpenAI's notation has it in `function`."""
    return value["function"] if isinstance(value, dict) and isinstance(value.get("function"), dict) else value


def _from_object(value: Any) -> ParsedCall:
    value = _called(value)
    if not isinstance(value, dict):
        raise BrokenCallError("a call is not an object")
    return call_of(value.get("name"), value.get("arguments", value.get("parameters")))
