"""Requests to the API server as somebody else, answered as they would be."""

import json
from functools import cached_property
from typing import Any

from kubernetes import client, config

MERGE, JSON = "application/merge-patch+json", "application/json"
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
API_GROUPS = {
    "argoproj.io": "v1alpha1",
    "apps": "v1",
    "batch": "v1",
    "karpenter.sh": "v1",
    "cloud.google.com": "v1",
}


class Person:
    """A user or a service account, impersonated by the user of the kubeconfig."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def _api(self) -> client.ApiClient:
        # Read at the first request: where there is no cluster, the tests that name a person are only collected.
        configuration = client.Configuration()
        config.load_kube_config(client_configuration=configuration)
        return client.ApiClient(configuration)

    def tries(
        self,
        verb: str,
        resource: str,
        body: Any = None,
        *,
        namespace: str = "",
        name: str = "",
        dry: bool = True,
    ) -> str:
        """Send a request, and return why it is refused; empty if it is not.

        Args:
            verb: create, patch, update or delete.
            resource: its plural, with its group: workflows.argoproj.io, pods.
            body: the object, or the merge patch.
            namespace: of the object; empty: of the whole cluster.
            name: of the object.
            dry: whether nothing is changed.
        """
        plural, _, group = resource.partition(".")
        root = f"/apis/{group}/{API_GROUPS[group]}" if group else "/api/v1"
        path = f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"
        method = {"create": "POST", "patch": "PATCH", "update": "PUT", "delete": "DELETE"}[verb]
        kind = MERGE if verb == "patch" else JSON
        return self._send(method, f"{path}/{name}" if name else path, body, kind, dry=dry)[0]

    def may(self, namespace: str) -> set[tuple[str, str]]:
        """Return every verb and resource (`pods/log`, `leases.coordination.k8s.io`) that the account has in a namespace."""
        _, answer = self._send("POST", RULES, {"spec": {"namespace": namespace}}, JSON, dry=False)
        return {
            (verb, f"{resource}.{group}".rstrip("."))
            for rule in answer["status"]["resourceRules"]
            for verb in rule["verbs"]
            for resource in rule["resources"]
            for group in rule.get("apiGroups", [""])
        }

    def _send(self, method: str, path: str, body: Any, kind: str, *, dry: bool) -> tuple[str, dict[str, Any]]:
        headers = {"Impersonate-User": self.name, "Content-Type": kind, "Accept": JSON, **self._api.default_headers}
        url = f"{self._api.configuration.host}{path}{'?dryRun=All' if dry else ''}"
        answer = self._api.rest_client.pool_manager.request(
            method, url, body=None if body is None else json.dumps(body), headers=headers
        )
        found = json.loads(answer.data)
        return ("", found) if answer.status < 300 else (str(found["message"]), found)
