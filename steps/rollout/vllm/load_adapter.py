"""Makes every replica of a running base server load an adapter, and checks at each replica's own address that it has."""

import time

import httpx2

from steps.common.runtime.errors import RefusedError, first_line
from steps.common.runtime.progress import say
from steps.common.web.web_client import local_client

LOAD_SECONDS = 180.0  # for one replica to read the adapter, after the requests that it is answering
# A volume that many nodes mount may show a new folder to each of them a little later.
APPEAR_SECONDS = 90.0
PAUSE_SECONDS = 2.0


def load_on_replicas(replicas: dict[str, str], name: str, base: str, appear_seconds: float = APPEAR_SECONDS) -> None:
    """Request one token of the adapter from each replica, which loads it. Requests to other models are not interrupted.

    Args:
        replicas: the address of each (http://HOST:PORT), by the replica's name.
        name: the model name under which vLLM serves the adapter.
        base: the model name of the base model.
        appear_seconds: how long to wait until a replica sees the adapter's folder.

    Raises:
        RefusedError: a replica cannot load it; the text quotes its answer. What is served already is not affected.
    """
    if not replicas:
        raise RefusedError(f"{base} has no ready replica")
    for replica, address in replicas.items():
        started = time.monotonic()
        _load(replica, address, name, appear_seconds)
        parent = _parents(replica, address).get(name)
        if parent != base:
            raise RefusedError(f"{replica} serves {name} as an adapter of {parent!r}, not of {base}")
        say(f"{replica} loaded {name} in {time.monotonic() - started:.1f} s")


def _load(replica: str, address: str, name: str, appear_seconds: float) -> None:
    body = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    started = time.monotonic()
    while True:
        try:
            with local_client(timeout=LOAD_SECONDS) as client:
                answer = client.post(f"{address}/v1/completions", json=body)
        except httpx2.HTTPError as error:
            if time.monotonic() - started > LOAD_SECONDS:
                raise RefusedError(f"{replica} does not answer: {str(error) or type(error).__name__}") from None
            time.sleep(PAUSE_SECONDS)
            continue
        if answer.status_code == 200:
            return
        if answer.status_code != 404 or time.monotonic() - started > appear_seconds:
            raise RefusedError(f"{replica} does not load {name}: {_message(answer)}")
        time.sleep(PAUSE_SECONDS)


def _parents(replica: str, address: str) -> dict[str, str]:
    """Return the base model of each model that a replica lists."""
    try:
        with local_client(timeout=30) as client:
            answer = client.get(f"{address}/v1/models")
        answer.raise_for_status()
        return {one["id"]: one.get("parent") or "" for one in answer.json()["data"]}
    except (httpx2.HTTPError, ValueError, KeyError) as error:
        raise RefusedError(f"{replica} does not list its models: {first_line(error)}") from None


def _message(answer: httpx2.Response) -> str:
    try:
        return f"{answer.status_code} {answer.json()['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"
