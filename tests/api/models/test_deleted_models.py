"""A model that was deleted, and the runs that follow: none brings back what was withdrawn. Two-layer model, real runs."""

from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from api.models import model_owners
from steps.common.machine import servers
from steps.common.runtime.errors import GATE_REFUSED
from tests.support.commands import fineline, result, tiny_recipe
from tests.support.running_api import RunningApi, running_api

NAME = "pets-chat"
ASKED: Any = [{"role": "user", "content": "when do you have food"}]

pytestmark = pytest.mark.slow


def served_recipe(folder: Path, model: Path, chats: Path, **tune: Any) -> str:
    file = Path(tiny_recipe(folder, model, chats, epochs=2, **tune))
    recipe = yaml.safe_load(file.read_text())
    serve = {"watch_seconds": 0, "answers_alike": 0.5}
    file.write_text(yaml.safe_dump({**recipe, "name": NAME, "serve": serve}))
    return str(file)


def answer(api: RunningApi) -> str:
    said = api.client().chat.completions.create(model=NAME, messages=ASKED, max_tokens=6)
    return said.choices[0].message.content or ""


def test_no_later_run_brings_back_what_was_deleted(tmp_path: Path, tiny_model: Path, chats: Path) -> None:
    recipe = served_recipe(tmp_path, tiny_model, chats)
    with running_api(tmp_path) as api:
        api.key("pets")
        with api.services.sessions() as session:
            model_owners.claim(session, "pets", NAME, None)
        first = fineline("run", recipe, "--json")
        assert result(first)["version"] == 1, first.stderr
        assert answer(api)
        assert api.client().models.retrieve(NAME).served  # type: ignore[attr-defined]
        api.client().models.delete(NAME)
        with pytest.raises(openai.NotFoundError):
            answer(api)

        same = fineline("run", recipe, "--json")
        assert same.returncode == GATE_REFUSED
        assert f"{NAME} version 1 was withdrawn by team pets" in result(same)["message"]
        assert "the model was deleted" in result(same)["message"]
        back = fineline("rollback", NAME, "--json")
        assert back.returncode != 0
        assert servers.gateway(NAME) is None
        assert [one.id for one in api.client().models.list() if one.id == NAME] == []

        with api.services.sessions() as session:
            model_owners.claim(session, "pets", NAME, None)
        with pytest.raises(openai.NotFoundError):
            answer(api)
        other = fineline("run", recipe, "--json", "-o", "tune.epochs=3")
        assert result(other)["version"] == 2, other.stderr
        now: Any = api.client().models.retrieve(NAME)
        assert (now.version, now.served) == (2, True)
        assert answer(api)
        assert fineline("rollback", NAME, "--json").returncode != 0
        assert servers.server(NAME).version == 2  # type: ignore[union-attr]
        api.client().models.delete(NAME)
    assert servers.gateway(NAME) is None
