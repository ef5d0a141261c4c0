"""How the live gate and the watch window judge: similarity of answers, latencies, Envoy's counts."""

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from recipes.serving import Serve
from steps.common.runtime.errors import RefusedError
from steps.rollout.gateway.traffic import Traffic, read
from steps.rollout.trial import live_gate
from steps.rollout.trial.latency import of_histogram, percentile, slower, too_slow
from steps.rollout.trial.live_gate import LiveQuestion, questions, smoke
from steps.rollout.trial.similarity import similarity
from tests.support.commands import free_port
from tests.support.evaluation_reports import write_changed_report

ANSWER = "We are open from nine to six on Thursdays, and on Saturdays until four. Happy tails, Pia"


def test_case_and_spaces_do_not_lower_the_similarity() -> None:
    assert similarity(ANSWER, ANSWER.upper().replace(" ", "\n")) == 1.0


def test_an_answer_in_mostly_the_same_words_is_still_similar() -> None:
    other = "On Thursdays we are open from nine to six, and until four on Saturdays. Happy tails, Pia"
    assert similarity(ANSWER, other) > 0.9


@pytest.mark.parametrize(
    "other", ["", "I am an assistant who can help you with a wide range of tasks.", "zebra " * 20, "the the the the"]
)
def test_another_models_answer_is_not_similar(other: str) -> None:
    assert similarity(ANSWER, other) < 0.4


def test_scripts_without_spaces_count_by_the_character() -> None:
    assert similarity("星期四九点到六点", "星期四九点到五点") == pytest.approx(7 / 8)
    assert similarity("星期四九点到六点", "我是一个助手") < 0.2


def test_an_empty_answer_is_similar_only_to_an_empty_answer() -> None:
    assert similarity("", " ") == 1.0
    assert similarity("", "words") == 0.0


def test_the_95th_percentile_is_a_measured_value() -> None:
    assert percentile([0.3]) == 0.3
    assert percentile([float(number) for number in range(1, 101)]) == 95.0


def test_a_percentile_of_a_histogram_lies_within_its_bucket() -> None:
    buckets = {0.1: 50.0, 0.2: 90.0, 0.4: 100.0, math.inf: 100.0}
    assert of_histogram(buckets) == pytest.approx(0.3)
    assert of_histogram({0.1: 0.0, math.inf: 0.0}) is None
    assert of_histogram({0.1: 1.0, math.inf: 100.0}) == 0.1
    assert of_histogram({}) is None


@pytest.mark.parametrize(
    ("new", "old", "slow"), [(3.1, 1.0, True), (2.9, 1.0, False), (0.4, 0.01, False), (0.6, 0.01, True)]
)
def test_too_slow_means_slower_by_the_factor_and_by_a_noticeable_time(new: float, old: float, slow: bool) -> None:
    assert bool(slower(new, old, 3.0)) == slow


def test_without_measurements_nothing_is_too_slow() -> None:
    assert too_slow([], [1.0], 3.0) == too_slow([9.0], [], 3.0) == ""


def test_a_service_that_refuses_connections_just_after_its_pods_are_ready_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_gate, "REACH_SECONDS", 3.0)
    server = HTTPServer(("127.0.0.1", free_port()), Greets, bind_and_activate=False)
    server.server_bind()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    with pytest.raises(RefusedError, match=r"the new server fails on 'Hello': .*refused"):
        smoke(url, "store", [], 8, 10.0)
    timer = threading.Timer(1.0, serve, [server])
    timer.start()
    try:
        smoke(url, "store", [], 8, 10.0)
    finally:
        timer.join()
        server.shutdown()
        server.server_close()
    assert "answered: Good day" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "offline", "passed", "alike"),
    [
        ("<think>\na store\n</think>\n\nGood day", "Good day", True, 1.0),
        ("<think>\na store", "", True, 1.0),  # the evaluation's thought did not end either
        ("<think>\na store", "Good day", False, 0.0),
        (None, "Good day", False, 0.0),
    ],
)
def test_answers_are_compared_behind_their_thoughts(
    content: str | None, offline: str, passed: bool, alike: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Greets, "content", content)
    server = HTTPServer(("127.0.0.1", free_port()), Greets, bind_and_activate=False)
    server.server_bind()
    serve(server)
    try:
        asked = [LiveQuestion([{"role": "user", "content": "Hello"}], offline)]
        found = live_gate.live_gate(f"http://127.0.0.1:{server.server_port}/v1", None, "store", asked, Serve(), 8)
    finally:
        server.shutdown()
        server.server_close()
    assert (found.passed, found.alike) == (passed, alike)


class Greets(BaseHTTPRequestHandler):
    content: str | None = "Good day"

    def do_POST(self) -> None:
        body = json.dumps({"choices": [{"message": {"content": self.content}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(server: HTTPServer) -> None:
    server.server_activate()
    threading.Thread(target=server.serve_forever, daemon=True).start()


STATISTICS = """\
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="version-3-8000"} 40
envoy_cluster_upstream_rq_xx{envoy_response_code_class="4",envoy_cluster_name="version-3-8000"} 3
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="version-3-8000"} 2
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="version-2-8000"} 9
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="version-3-8000",le="100"} 30
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="version-3-8000",le="+Inf"} 45
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="version-3-8000"} 900
envoy_cluster_upstream_rq_time_count{envoy_cluster_name="version-3-8000"} 45
"""


def test_a_servers_counts_are_read_from_the_gateways_statistics_without_the_clients_faults() -> None:
    assert read(STATISTICS, "version-3-8000") == Traffic(42, 2, {0.1: 30.0, math.inf: 45.0})
    assert read(STATISTICS, "version-4-8000") == Traffic()


def test_counts_are_subtracted_over_time_and_added_over_pods() -> None:
    before, after = Traffic(10, 1, {0.1: 8.0}), Traffic(15, 1, {0.1: 9.0, 0.2: 4.0})
    assert after.since(before) == Traffic(5, 0, {0.1: 1.0, 0.2: 4.0})
    assert sum([before, after], Traffic()) == Traffic(25, 2, {0.1: 17.0, 0.2: 4.0})


def test_the_live_gate_asks_what_the_evaluation_asked(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "open?"}]
    answers: list[dict[str, Any]] = [
        {"asked": "France?", "candidate": "Paris", "champion": "Paris!", "expect": "paris", "candidate_meets": True},
        {"asked": "Spain?", "candidate": "Rome", "expect": "Madrid", "candidate_meets": False},
        {"asked": "open?", "candidate": "yes", "messages": chat},
        {"asked": "a turn of a chat that was not kept", "candidate": "yes"},
    ]
    whole = [{"wanted": "", "base": "", **answer} for answer in answers]
    report = write_changed_report(tmp_path / "report.json", answers=whole)
    assert questions(report) == [
        LiveQuestion([{"role": "user", "content": "France?"}], "Paris", "Paris!", "paris"),
        LiveQuestion([{"role": "user", "content": "Spain?"}], "Rome"),
        LiveQuestion(chat, "yes"),
    ]
