"""`fineline submit` with a user's rights: the data reach the runs volume, by a run that receives them and a port-forward."""

import hashlib
import json
from pathlib import Path

import yaml

from pipelines.cluster.follow import RUN_LABEL
from pipelines.workflows import receive
from steps.common.port_forward.parts import PART
from tests.support.argo_controller import taking_up
from tests.support.commands import fineline, tiny_recipe
from tests.support.kubectl import get, kubectl


def test_the_data_of_a_user_arrive_whole_and_only_once(
    namespace: str, user: dict[str, str], reader: str, tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = chats.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines * (3 * PART // len("".join(lines)) + 1)))  # several parts
    recipe = tiny_recipe(tmp_path, tiny_model, rows)
    with taking_up(namespace, receive.build()) as receivers:
        done = fineline("submit", recipe, "-n", namespace, "--json", environment=user)
        assert done.returncode == 0, done.stderr
        run = json.loads(done.stdout)["run"]
        again = fineline("submit", recipe, "-n", namespace, "--json", environment=user)
        assert again.returncode == 0, again.stderr
    parameters = get("workflow", run, namespace)["spec"]["arguments"]["parameters"]
    path = yaml.safe_load(next(one["value"] for one in parameters if one["name"] == "recipe"))["data"]["train"]
    digest = hashlib.sha256(rows.read_bytes()).hexdigest()
    assert path == f"/runs/data/{digest[:16]}/rows.jsonl"
    found = kubectl("exec", reader, "-n", namespace, "--", "sha256sum", path).stdout
    assert found.split()[0] == digest
    beside = kubectl("exec", reader, "-n", namespace, "--", "ls", "-A", str(Path(path).parent)).stdout
    assert beside.split() == ["rows.jsonl"]
    first, second = (
        kubectl("logs", "-n", namespace, "-l", f"{RUN_LABEL}={run}", "-c", "main", "--tail=-1").stdout
        for run in receivers
    )
    assert "is complete" in first
    assert "is there already" in second


def test_who_may_not_forward_ports_is_told_so_in_one_line(
    namespace: str, user: dict[str, str], tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    rows = tmp_path / "others.jsonl"
    rows.write_text(chats.read_text() + chats.read_text())
    change = '[{"op": "remove", "path": "/rules/4"}]'
    assert get("role", "fineline-user", namespace)["rules"][4]["resources"] == ["pods/portforward"]
    kubectl("patch", "role", "fineline-user", "-n", namespace, "--type=json", "-p", change)
    try:
        with taking_up(namespace, receive.build()) as receivers:
            done = fineline("submit", tiny_recipe(tmp_path, tiny_model, rows), "-n", namespace, environment=user)
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()[-1:]
        assert 'resource "pods/portforward"' in line  # the API server's own words
        run = receivers[-1]  # after those of other tests
        assert get("workflow", run, namespace)["spec"]["shutdown"] == "Stop"
    finally:
        rule = '{"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]}'
        change = f'[{{"op": "add", "path": "/rules/4", "value": {rule}}}]'
        kubectl("patch", "role", "fineline-user", "-n", namespace, "--type=json", "-p", change)
