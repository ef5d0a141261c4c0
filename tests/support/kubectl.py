"""kubectl, as a person would use it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CLUSTER_TOOLS = ROOT.parent / "shared" / "cluster"
BUILT = Path("/var/cache/cluster/bin/kubectl")
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


def kubectl(*arguments: str, document: Any = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run kubectl, with the document, if any, on standard input."""
    # kubectl validates fields against the API server's whole schema, which takes seconds to download each time.
    told = any(one == "--raw" or one.startswith("--validate") for one in arguments)
    unchecked = [] if document is None or told else ["--validate=ignore"]
    done = subprocess.run(
        [shutil.which("kubectl") or str(BUILT), *arguments, *unchecked],
        input=json.dumps(document) if document is not None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ,
    )
    assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done


def get(kind: str, name: str, namespace: str) -> dict[str, Any]:
    """Return an object of a namespace."""
    found: dict[str, Any] = json.loads(kubectl("get", kind, name, "-n", namespace, "-o", "json").stdout)
    return found


def may(account: str, namespace: str, verb: str, resource: str, group: str = "", within: str = "") -> bool:
    """Tell whether a service account may do something, in its own namespace or in the one named `within`."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": {
                "namespace": within or namespace,
                "verb": verb,
                "resource": resource,
                "group": group,
            },
        },
    }
    answer = json.loads(kubectl("create", "--raw", REVIEWS, "-f", "-", document=review).stdout)
    return bool(answer["status"]["allowed"])
