"""Envoy's filters that replace the model's public name in a request by vLLM's name of the live version.

The transform filter (https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/transform_filter)
rewrites the body, so that it has one member `model`, ours. It passes on unchanged what it cannot parse: bodies that are
not JSON or not an object and, as of 1.40, objects with a duplicate member, of which vLLM would take the last. vLLM takes
any path below its adapters' folder as a model's name, `../x` too. So the filter also sets a header, and requests without
it are refused.
"""

from typing import Any

Json = dict[str, Any]

TRANSFORM, MARKED = "transform", "marked"
MARK = "fineline-model"
EXTENSIONS = "type.googleapis.com/envoy.extensions."


def early_header_mutations() -> list[Json]:
    """Return the connection manager's first step: it removes the header if a user has sent it."""
    mutation = f"{EXTENSIONS}http.early_header_mutation.header_mutation.v3.HeaderMutation"
    config = {"@type": mutation, "mutations": [{"remove": MARK}]}
    return [{"name": "unmarked", "typed_config": config}]


def filters() -> list[Json]:
    """Return the two filters, in order. They come after those that check the public name, and before the router.

    They act only on routes that have the configuration of `of_route`.
    """
    transform = {"@type": f"{EXTENSIONS}filters.http.transform.v3.TransformConfig"}
    nothing = {"@type": f"{EXTENSIONS}filters.http.rbac.v3.RBAC"}
    return [{"name": TRANSFORM, "typed_config": transform}, {"name": MARKED, "typed_config": nothing}]


def of_route(model: str) -> Json:
    """Return the `typed_per_filter_config` of a route to that model of vLLM's."""
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
