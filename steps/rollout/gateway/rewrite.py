"""Envoy's filters that put vLLM's name of a version in the place of the model's public name, and let nothing else by.

Envoy's transform filter (https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/transform_filter)
writes the whole body anew, so one member `model` is left, ours. What it cannot read it passes on as it came: no JSON, no
object, or, tried with 1.40, an object with a member twice, of which vLLM would take the last. vLLM takes any path below
its folder of adapters for a model's name (`../x` too), so such a request is refused: it lacks the mark.
"""

from typing import Any

Json = dict[str, Any]

TRANSFORM, MARKED = "transform", "marked"
MARK = "fineline-model"
EXTENSIONS = "type.googleapis.com/envoy.extensions."


def early_header_mutations() -> list[Json]:
    """Return what the connection manager does first: no user sets the mark."""
    mutation = f"{EXTENSIONS}http.early_header_mutation.header_mutation.v3.HeaderMutation"
    config = {"@type": mutation, "mutations": [{"remove": MARK}]}
    return [{"name": "unmarked", "typed_config": config}]


def filters() -> list[Json]:
    """Return the filters, in their order: after those that ask for the public name, before the router.

    They do nothing but where a route has `of_route`.
    """
    transform = {"@type": f"{EXTENSIONS}filters.http.transform.v3.TransformConfig"}
    nothing = {"@type": f"{EXTENSIONS}filters.http.rbac.v3.RBAC"}
    return [{"name": TRANSFORM, "typed_config": transform}, {"name": MARKED, "typed_config": nothing}]


def of_route(model: str) -> Json:
    """Return the `typed_per_filter_config` of a route whose requests are for that model of vLLM's."""
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
    }
