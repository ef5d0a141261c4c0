"""The tables of docs/rights.md."""

import re
from dataclasses import dataclass

from tests.support.kubectl import ROOT

PAGE = ROOT / "docs" / "rights.md"
NODE_COMPONENTS = frozenset({"karpenter", "compute-class", "gpu-nodes"})
ITS_NAMESPACE, CLUSTER, DEFAULT = "its namespace", "the cluster", "`default`"


@dataclass(frozen=True)
class Grant:
    """One row: what an account or a role may do."""

    who: str
    rights: frozenset[tuple[str, str]]  # verb and resource, such as leases.coordination.k8s.io
    where: str
    components: frozenset[str]  # any of them is needed; empty: none


def grants(heading: str) -> list[Grant]:
    """Return the rows below a heading."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = []
    for line in section.splitlines():
        if not line.startswith("| `"):
            continue
        name, verbs, resources, *where = (cell.strip() for cell in line.strip("|").split("|"))
        of, _, condition = resources.partition(";")
        rights = {(verb, resource) for verb in verbs.split(", ") for resource in of.split(", ") if resource}
        needs = frozenset(re.findall("component `([a-z-]+)`|or `([a-z-]+)`", condition))
        components = frozenset(one for pair in needs for one in pair if one)
        if name == "`fineline-provision`" and not components:
            components = NODE_COMPONENTS
        place = where[0] if where else ITS_NAMESPACE
        found.append(Grant(name.strip("`"), frozenset(rights), place, components))
    return found
