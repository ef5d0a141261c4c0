"""The tables of docs/rights.md are those of the manifests; a cluster test tries them on an API server."""

from collections import defaultdict
from typing import Any

import yaml

from tests.docs.documents import ROOT
from tests.support.rights_page import CLUSTER, DEFAULT, ITS_NAMESPACE, grants

ARGO = ROOT / "argo"


def documents() -> list[dict[str, Any]]:
    files = [ARGO / "base" / "accounts.yaml", *(ARGO / "components").glob("*/roles.yaml")]
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


def rights(rules: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {
        (verb, f"{resource}.{group}".rstrip("."))
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_the_tables_are_those_of_the_manifests() -> None:
    found: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    rules = {(one["kind"], one["metadata"]["name"]): one["rules"] for one in documents() if "rules" in one}
    for one in documents():
        if not one["kind"].endswith("Binding"):
            continue
        within = one["metadata"].get("labels", {}).get("fineline.dev/within")
        where = CLUSTER if one["kind"].startswith("Cluster") else f"`{within}`" if within else ITS_NAMESPACE
        for subject in one["subjects"]:
            found[subject["name"], where] |= rights(rules[one["roleRef"]["kind"], one["roleRef"]["name"]])
    for component in (ARGO / "components").glob("autoscale-*/kustomization.yaml"):
        for patch in yaml.safe_load(component.read_text())["patches"]:
            if patch["target"]["kind"] == "Role":
                added = [change["value"] for change in yaml.safe_load(patch["patch"])]
                found[patch["target"]["name"], ITS_NAMESPACE] |= rights(added)
    told: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for grant in grants("Accounts"):
        if grant.rights:
            told[grant.who, grant.where] |= grant.rights
    assert told == found
    assert DEFAULT in {where for _, where in told}


def test_the_roles_for_people_are_those_of_the_manifests() -> None:
    roles = {one["metadata"]["name"]: rights(one["rules"]) for one in documents() if one["kind"] == "Role"}
    told: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for grant in grants("People"):
        told[grant.who] |= grant.rights
    assert {"fineline-user", "fineline-approver"} == told.keys()
    assert all(roles[name] == given for name, given in told.items())
    given = set().union(*told.values())
    assert not {resource for _, resource in given} & {"secrets", "pods/exec", "serviceaccounts/token"}
    assert ("create", "pods") not in given
