"""The quote of a job in a cluster, made by a process of its own."""

from pathlib import Path

import pytest

from api.cluster.cluster_quote import cluster_quote
from recipes.reader import load


def test_a_job_is_quoted_before_there_is_a_run(tiny_model: Path, chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_COMPUTE", "compute-class")
    changes = {"model": tiny_model.as_uri(), "data.train": str(chats), "data.max_tokens": "64"}
    quote = cluster_quote(load("pet-store", changes))
    assert quote is not None
    assert (quote.provider, quote.cloud) == ("compute-class", "gcp")
    assert quote.ladder[0].cost
