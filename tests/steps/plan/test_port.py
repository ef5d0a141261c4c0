"""A port that the recipe names must be free. Without one, the rollout chooses."""

import socket
from collections.abc import Iterator

import pytest

from recipes.reader import load
from recipes.recipe import Recipe
from steps.common.runtime.errors import UserError
from steps.plan.port import check_port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def recipe(**serve: str) -> Recipe:
    return load("pet-store", {f"serve.{key}": value for key, value in serve.items()})


def test_a_port_that_the_recipe_names_and_another_program_has_is_refused(taken: int) -> None:
    with pytest.raises(UserError, match=rf"^serve\.port: {taken} is in use by another program; leave serve\.port out"):
        check_port(recipe(port=str(taken)))


def test_without_a_port_the_recipe_is_fine_whatever_is_in_use() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 8360))
            other.listen()
        except OSError:
            pass  # in use already
        assert recipe().serve.port is None
        check_port(recipe())


@pytest.mark.parametrize("port", [{}, {"port": "8399"}])
def test_a_host_that_is_not_of_this_machine_is_refused(port: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"^serve\.host: cannot listen on 192\.0\.2\.1"):
        check_port(recipe(host="192.0.2.1", **port))
