"""Envoy's configuration as the gateway of a model: which requests it accepts, and which server gets them.

The fields are documented at https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api. Listeners, clusters and routes are
files that Envoy reads again when a new one is renamed over them, so a change does not interrupt requests.
"""

import json
import math
from pathlib import Path
from typing import Any

from steps.rollout.gateway import gateway_memory, rewrite
from steps.rollout.gateway.upstream import Rules, Upstream

Json = dict[str, Any]

PASSED_ON = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
MODELS, HEALTH = "/v1/models", "/health"
VERSION_HEADER = "fineline-version"
LISTENERS, CLUSTERS, ROUTES, BOOTSTRAP = "listeners.json", "clusters.json", "routes.json", "bootstrap.json"
ADMIN = "admin"  # name of the cluster that is Envoy's own admin interface
# Metadata namespace in which Envoy keeps the `model` of a request's body.
FROM_BODY = "fineline.request"
# uvicorn, in front of both transformers and vLLM, closes a connection without notice: when it is idle for 5 s
# (https://www.uvicorn.org/settings/#timeouts), and after an answer whose handler raised an exception. A request that is
# sent at that moment is lost, since a model is not asked twice. So none is sent on a connection that was used. A new one
# takes less than a millisecond.
REQUESTS_PER_CONNECTION = 1
CONNECT_SECONDS = 5
HEALTH_SECONDS = 10
CONNECTION_SECONDS = 5  # age at which a connection is closed, after the answer in progress
LONGEST_LISTING = 64 << 10
SAID: dict[int, str] = {
    401: "this model requires an API key; send it as a bearer token",
    403: "the body must be a JSON object without duplicate members",
    413: "the request is larger than this server accepts",
    429: "too many requests; try again later",
    503: "the model server does not answer",
    504: "the model server did not answer in time",
}

OVERLOADED = "too many requests are being received; try again later"


def bootstrap(rules: Rules, folder: Path, admin: Path) -> Json:
    """Return Envoy's bootstrap configuration.

    Args:
        rules: what to accept, which determines the memory.
        folder: folder of the listeners, clusters and routes.
        admin: Unix socket of the admin interface, which only this user may open.
    """
    return {
        "node": {"id": "gateway", "cluster": "fineline"},
        "admin": {"address": _pipe(admin) | {"pipe": {"path": str(admin), "mode": 0o600}}},
        "dynamic_resources": {"lds_config": _file(folder / LISTENERS), "cds_config": _file(folder / CLUSTERS)},
        "overload_manager": gateway_memory.overload_manager(rules),
        "stats_flush_interval": "1s",  # histograms are up to this old
    }


def listeners(rules: Rules, api_keys: list[str], folder: Path) -> list[Json]:
    """Return the listeners: the model's address, and if `rules` name a port for it, the statistics.

    Args:
        rules: where to listen and what to accept.
        api_keys: requests have to send one of them as a bearer token; empty: none.
        folder: folder of the routes.
    """
    source = {"route_config_name": "routes", "config_source": _file(folder / ROUTES)}
    manager = {
        **_manager("gateway", rules.answer_seconds),
        "request_timeout": f"{gateway_memory.receive_seconds(rules)}s",  # to receive the request, not to answer it
        # One request at a time on each connection, whatever the protocol: each may hold a body.
        "http2_protocol_options": {"max_concurrent_streams": 1},
        "rds": source,
        "early_header_mutation_extensions": rewrite.early_header_mutations(),
        "local_reply_config": {"mappers": [_overloaded(), *(_openai_error(status) for status in SAID)]},
        "http_filters": [*_filters(rules, api_keys)],
    }
    found = [_listener("gateway", rules.host, rules.port, manager, rules.request_bytes)]
    if rules.stats_port:
        route = {"cluster": ADMIN, "prefix_rewrite": "/stats/prometheus?usedonly"}
        only = {"match": {"path": "/metrics", **_method("GET")}, "route": route}
        shown = {"name": "stats", "virtual_hosts": [{"name": "stats", "domains": ["*"], "routes": [only]}]}
        manager = {**_manager("stats", HEALTH_SECONDS), "route_config": shown, "http_filters": [_router()]}
        found.append(_listener("stats", rules.host, rules.stats_port, manager, 1 << 20))
    return found


def clusters(upstreams: list[Upstream], admin: Path) -> list[Json]:
    """Return the clusters: all known servers, with or without traffic, and the admin interface."""
    found = [_cluster(one.cluster, _address(one.host, one.port), by_name=one.elsewhere) for one in upstreams]
    return [*found, _cluster(ADMIN, _pipe(admin))]


def routes(rules: Rules, live: Upstream) -> Json:
    """Return the routes: to the live server, or to an answer that says why not."""
    host = {
        "name": "model",
        "domains": ["*"],
        "response_headers_to_add": [_header(VERSION_HEADER, str(live.version))],
        "routes": [
            {
                "match": {"path": HEALTH, **_method("GET")},
                "route": {"cluster": live.cluster, "timeout": f"{HEALTH_SECONDS}s"},
                "typed_per_filter_config": {name: _off() for name in ("api_key", "rate")},
            },
            {"match": {"path": MODELS, **_method("GET")}, **_answer(200, listing(rules.name, live))},
            *(route for path in PASSED_ON for route in _passed_on(path, rules, live)),
            {"match": {"prefix": "/"}, **_answer(404, _error(404, "this path does not exist here"))},
        ],
    }
    return {"name": "routes", "max_direct_response_body_size_bytes": LONGEST_LISTING, "virtual_hosts": [host]}


def listing(name: str, live: Upstream) -> Json:
    """Return the answer to `/v1/models`: the model, its version, and what that was made of."""
    model = {
        "id": name,
        "object": "model",
        "created": int(live.started),
        "owned_by": "fineline",
        "parent": live.base,
        "version": live.version,
        "adapter_sha256": live.adapter_sha256,
        "run": live.run,
    }
    return {"object": "list", "data": [model]}


def discovered(kind: str, resources: list[Json], version: str) -> Json:
    """Return the content of a file of listeners, clusters or routes.

    Args:
        kind: "listener.v3.Listener", "cluster.v3.Cluster" or "route.v3.RouteConfiguration".
        resources: all of that kind.
        version: what Envoy will report once they are in effect.
    """
    named = f"type.googleapis.com/envoy.config.{kind}"
    return {"version_info": version, "resources": [{"@type": named, **one} for one in resources]}


def _passed_on(path: str, rules: Rules, live: Upstream) -> list[Json]:
    """Return the routes of one path: for the model's name, for another name, and for none."""
    match = {"path": path, **_method("POST")}
    right = {**match, "dynamic_metadata": [_named({"string_match": {"exact": rules.name}})]}
    other = {**match, "dynamic_metadata": [_named({"present_match": True})]}
    on = {"cluster": live.cluster, "timeout": f"{rules.answer_seconds}s"}
    # Retry only requests that have not reached the server: answers are expensive.
    retry = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 2}
    not_here = f"the model does not exist here; this server has {rules.name!r}"
    no_name = f"the body must be JSON with a field 'model', which is {rules.name!r} here"
    # A server of several adapters has a name of its own for each version.
    own_name = {"typed_per_filter_config": rewrite.of_route(live.model, rules.name)} if live.model else {}
    return [
        {"match": right, "route": {**on, "retry_policy": retry}, **own_name},
        {"match": other, **_answer(404, _error(404, not_here))},
        {"match": match, **_answer(400, _error(400, no_name))},
    ]


def _filters(rules: Rules, api_keys: list[str]) -> list[Json]:
    found = []
    if api_keys:
        credentials = [{"key": key, "client": "user"} for key in api_keys]
        key = {"credentials": credentials, "key_sources": [{"header": "Authorization"}]}
        # The model server has no use for it.
        hidden = {"forwarding": {"hide_credentials": True}}
        found.append(_filter("api_key", "api_key_auth.v3.ApiKeyAuth", {**key, **hidden}))
    if rules.requests_per_minute:
        found.append(_filter("rate", "local_ratelimit.v3.LocalRateLimit", _rate(rules.requests_per_minute)))
    found.append(_filter("size", "buffer.v3.Buffer", {"max_request_bytes": rules.request_bytes}))
    # transformers' server has one model; a server of several adapters must not be asked for another one.
    on_present = {"metadata_namespace": FROM_BODY, "key": "model"}
    model = {"selectors": [{"key": "model"}], "on_present": on_present}
    found.append(_filter("model", "json_to_metadata.v3.JsonToMetadata", {"request_rules": {"rules": [model]}}))
    return [*found, *rewrite.filters(), _router()]


def _rate(requests_per_minute: int) -> Json:
    """Allow a minute's requests at once, then refill each second; with less than one a second, one at a time."""
    seconds = max(1, math.ceil(60 / requests_per_minute))
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "stat_prefix": "rate",
        "token_bucket": {
            "max_tokens": requests_per_minute,
            "tokens_per_fill": max(1, requests_per_minute * seconds // 60),
            "fill_interval": f"{seconds}s",
        },
        "filter_enabled": always,
        "filter_enforced": always,
        "response_headers_to_add": [_header("retry-after", str(seconds))],
    }


def _manager(name: str, seconds: int) -> Json:
    return {
        "@type": _type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "request_headers_timeout": "10s",
        "stream_idle_timeout": f"{seconds}s",
        # A client that keeps its connection keeps its pod, which is the old version's after a Service has been switched.
        "common_http_protocol_options": {"max_connection_duration": f"{CONNECTION_SECONDS}s"},
        "http1_safe_max_connection_duration": True,
    }


def _listener(name: str, host: str, port: int, manager: Json, buffer_bytes: int) -> Json:
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {
        "name": name,
        "address": _address(host, port),
        "per_connection_buffer_limit_bytes": max(buffer_bytes, 1 << 20),
        "filter_chains": [chain],
        # If two gateways get the same address, the second one must fail rather than share it.
        "enable_reuse_port": False,
    }


def _cluster(name: str, address: Json, *, by_name: bool = False) -> Json:
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address}}]}
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"max_requests_per_connection": REQUESTS_PER_CONNECTION},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "name": name,
        # Each address behind the name is a replica; the one with the fewest active requests gets the next.
        "type": "STRICT_DNS" if by_name else "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "load_assignment": {"cluster_name": name, "endpoints": [endpoint]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }


def _openai_error(status: int) -> Json:
    """Return Envoy's own refusal in the form that OpenAI's clients expect."""
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": f"fineline.status_{status}"}}
    return {
        "filter": {"status_code_filter": {"comparison": comparison}},
        "body_format_override": {"json_format": _error(status, SAID[status])},
    }


def _overloaded() -> Json:
    """Return the answer to a request that is refused because the gateway's memory is full."""
    kind = _type("access_loggers.filters.cel.v3.ExpressionFilter")
    expression = {"@type": kind, "expression": "response.code_details == 'overload'"}
    return {
        "filter": {"extension_filter": {"name": "cel", "typed_config": expression}},
        "body_format_override": {"json_format": _error(503, OVERLOADED)},
        "headers_to_add": [_header("retry-after", "1")],
    }


def _error(status: int, message: str) -> Json:
    return {"error": {"message": message, "type": "invalid_request_error", "code": status}}


def _answer(status: int, body: Json) -> Json:
    return {
        "direct_response": {"status": status, "body": {"inline_string": json.dumps(body)}},
        "response_headers_to_add": [_header("content-type", "application/json")],
    }


def _named(match: Json) -> Json:
    return {"filter": FROM_BODY, "path": [{"key": "model"}], "value": match}


def _method(method: str) -> Json:
    return {"headers": [{"name": ":method", "string_match": {"exact": method}}]}


def _header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _filter(name: str, kind: str, config: Json) -> Json:
    return {"name": name, "typed_config": {"@type": _type(f"filters.http.{kind}"), **config}}


def _router() -> Json:
    return _filter("router", "router.v3.Router", {})


def _off() -> Json:
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}


def _type(name: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{name}"


def _file(path: Path) -> Json:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _pipe(path: Path) -> Json:
    return {"pipe": {"path": str(path)}}
