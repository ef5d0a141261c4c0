"""Starts a pod's gateway. The name of the command stays as it is: Deployments of earlier releases execute it."""

import sys
from pathlib import Path

from steps.rollout.gateway.gateway import main
from steps.rollout.gateway.upstream import Rules, Upstream

if __name__ == "__main__":
    place, given, behind = sys.argv[1:]
    main(Path(place), Rules.model_validate_json(given), Upstream.model_validate_json(behind))
