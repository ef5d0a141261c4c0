"""A gateway's request counts of one server: answers, failures, latencies.

A status from 400 to 499 is the client's fault, and counts as neither: many of them must not hide that the server fails.
"""

from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

ANSWERS = "envoy_cluster_upstream_rq_xx"
SECONDS = "envoy_cluster_upstream_rq_time"  # a histogram, in milliseconds


@dataclass(frozen=True)
class Traffic:
    """The answers of one server since its gateway started."""

    answers: int = 0
    failures: int = 0  # with a status of 500 or above, including the gateway's own when the server did not answer
    buckets: dict[float, float] = field(default_factory=dict)  # by seconds: answers that took at most so long

    def __add__(self, other: "Traffic") -> "Traffic":
        """Return the sum of both."""
        bounds = self.buckets.keys() | other.buckets.keys()
        both = {bound: self.buckets.get(bound, 0) + other.buckets.get(bound, 0) for bound in bounds}
        return Traffic(self.answers + other.answers, self.failures + other.failures, both)

    def since(self, before: "Traffic") -> "Traffic":
        """Return the difference from an earlier count."""
        return Traffic(
            self.answers - before.answers,
            self.failures - before.failures,
            {bound: count - before.buckets.get(bound, 0) for bound, count in self.buckets.items()},
        )


def read(text: str, cluster: str) -> Traffic:
    """Read a server's counts from Envoy's statistics.

    Args:
        text: the statistics in Prometheus' text format.
        cluster: Envoy's name of the server.
    """
    answers, failures = 0, 0
    buckets: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name not in (ANSWERS, SECONDS):
            continue
        for sample in family.samples:
            if sample.labels.get("envoy_cluster_name") != cluster:
                continue
            if family.name == ANSWERS:
                at_fault = sample.labels["envoy_response_code_class"] == "4"
                answers += 0 if at_fault else int(sample.value)
                failures += int(sample.value) if sample.labels["envoy_response_code_class"] == "5" else 0
            elif sample.name == f"{SECONDS}_bucket":
                buckets[float(sample.labels["le"]) / 1000] = sample.value
    return Traffic(answers, failures, buckets)
