"""Envoy's filters that replace a model's public name in a request by vLLM's name of the live version, and back in the answer.

The transform filter (https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/transform_filter)
rewrites the body, so that it has one member `model`, ours. It passes on unchanged what it cannot parse: bodies that are
not JSON or not an object and, as of 1.40, objects with a duplicate member, of which vLLM would take the last. vLLM takes
any path below its adapters' folder as a model's name, `../x` too. So the filter also sets a header, and requests without
it are refused.
"""

from typing import Any

Json = dict[str, Any]

TRANSFORM, MARKED, NAMED = "transform", "marked", "named"
MARK = "fineline-model"
EXTENSIONS = "type.googleapis.com/envoy.extensions."


def early_header_mutations() -> list[Json]:
    """Return the connection manager's first step: it removes the header if a user has sent it."""
    mutation = f"{EXTENSIONS}http.early_header_mutation.header_mutation.v3.HeaderMutation"
    config = {"@type": mutation, "mutations": [{"remove": MARK}]}
    return [{"name": "unmarked", "typed_config": config}]


def filters() -> list[Json]:
    """Return the three filters, in order. They come after those that check the public name, and before the router.

    They act only on routes that have the configuration of `of_route`.
    """
    transform = {"@type": f"{EXTENSIONS}filters.http.transform.v3.TransformConfig"}
    nothing = {"@type": f"{EXTENSIONS}filters.http.rbac.v3.RBAC"}
    unchanged = {"@type": f"{EXTENSIONS}filters.http.lua.v3.Lua"}
    configs = {TRANSFORM: transform, MARKED: nothing, NAMED: unchanged}
    return [{"name": name, "typed_config": config} for name, config in configs.items()]


# Passes an answer on as it arrives, whole or streamed. What may be the beginning of the name at the end of a piece is kept
# for the next one; in JSON, something follows. Inside a text, quotes are escaped, so that only the member itself matches.
ANSWER = """\
function envoy_on_response(handle)
  local kind = handle:headers():get("content-type") or ""
  if not kind:find("json") and not kind:find("event%%-stream") then return end
  handle:headers():remove("content-length")
  local kept = ""
  for piece in handle:bodyChunks() do
    local text = kept .. piece:getBytes(0, piece:length())
    text = text:gsub('("model"%%s*:%%s*)"%(pattern)s"', '%%1"%(name)s"')
    local tail = text:match('"m?o?d?e?l?"?%%s*:?%%s*"?[%%w._-]*$') or ""
    if #tail > %(longest)d then tail = "" end
    kept = tail
    piece:setBytes(text:sub(1, #text - #tail))
  end
end
"""


def of_route(model: str, name: str) -> Json:
    """Return the `typed_per_filter_config` of a route to a model of vLLM's.

    Args:
        model: vLLM's name of it.
        name: the public name, which answers have.
    """
    pattern = "".join(one if one.isalnum() else f"%{one}" for one in model)
    code = ANSWER % {"pattern": pattern, "name": name, "longest": len(model) + 32}
    marked = {"header": {"name": MARK, "string_match": {"exact": model}}}
    rules = {"action": "ALLOW", "policies": {"marked": {"permissions": [{"any": True}], "principals": [marked]}}}
    header = {"header": {"key": MARK, "value": model}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {
        TRANSFORM: {
            "@type": f"{EXTENSIONS}filters.http.transform.v3.TransformConfig",
            "request_transformation": {
                "headers_mutations": [{"append": header}],
                "body_transformation": {"body_format": {"json_format": {"model": model}}, "action": "MERGE"},
            },
        },
        MARKED: {"@type": f"{EXTENSIONS}filters.http.rbac.v3.RBACPerRoute", "rbac": {"rules": rules}},
        NAMED: {"@type": f"{EXTENSIONS}filters.http.lua.v3.LuaPerRoute", "source_code": {"inline_string": code}},
    }
