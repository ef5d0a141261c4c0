"""Makes every replica of a running base server load an adapter, and makes sure that it has: at its own address."""

import time

import httpx2

from steps.common.runtime.errors import RefusedError
from steps.common.runtime.progress import say

LOAD_SECONDS = 180.0  # of one replica: it reads the adapter, and answers behind what is under way
# A volume that many nodes mount may show a new folder to each of them a little later.
APPEAR_SECONDS = 90.0
PAUSE_SECONDS = 2.0


def exchange(replicas: dict[str, str], name: str, base: str, appear_seconds: float = APPEAR_SECONDS) -> None:
    """Ask each replica one token of the adapter; the first request loads it. What is served meanwhile goes on.

    Args:
        replicas: the address of each (http://HOST:PORT), by what it is called.
        name: to which vLLM answers with the adapter.
        base: to which it answers without one.
        appear_seconds: longest wait for the adapter's folder to be seen there.

    Raises:
        RefusedError: a replica cannot load it; the text has what it says. Nothing that was served is touched.
    """
    if not replicas:
        raise RefusedError(f"{base} has no replica that is ready")
    for called, address in replicas.items():
        started = time.monotonic()
        _load(called, address, name, appear_seconds)
        parent = _listed(called, address).get(name)
        if parent != base:
            raise RefusedError(f"{called} answers to {name} and lists it as an adapter of {parent!r}, not of {base}")
        say(f"{called} has {name} after {time.monotonic() - started:.1f} s")


def _load(called: str, address: str, name: str, appear_seconds: float) -> None:
    body = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    started = time.monotonic()
    while True:
        try:
            answer = httpx2.post(f"{address}/v1/completions", json=body, timeout=LOAD_SECONDS)
        except httpx2.HTTPError as error:
            if time.monotonic() - started > LOAD_SECONDS:
                raise RefusedError(f"{called} does not answer: {str(error) or type(error).__name__}") from None
            time.sleep(PAUSE_SECONDS)
            continue
        if answer.status_code == 200:
            return
        if answer.status_code != 404 or time.monotonic() - started > appear_seconds:
            raise RefusedError(f"{called} does not load {name}: {_message(answer)}")
        time.sleep(PAUSE_SECONDS)


def _listed(called: str, address: str) -> dict[str, str]:
    """Return the parent of each model that a replica lists."""
    try:
        answer = httpx2.get(f"{address}/v1/models", timeout=30)
        answer.raise_for_status()
        return {one["id"]: one.get("parent") or "" for one in answer.json()["data"]}
    except (httpx2.HTTPError, ValueError, KeyError) as error:
        raise RefusedError(f"{called} does not list its models: {str(error).splitlines()[0]}") from None


def _message(answer: httpx2.Response) -> str:
    try:
        return f"{answer.status_code} {answer.json()['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"
