"""Topics that are created anew, and offsets that are not to be had, without a broker."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

import pytest

from sabot_ray.errors import (
    AuthorizationFailed,
    BrokerUnavailable,
    DataLoss,
    KafkaError,
    OffsetOutOfRange,
    TopicRecreated,
)
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.runtime import topic_watch
from sabot_ray.runtime.topic_watch import LogChange, TopicWatch
from sabot_ray.types import TopicPartition, Watermarks
from tests.servers import wait_until

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
OUT_OF_RANGE = OffsetOutOfRange("not to be had")


class Cluster:
    """Two topics; `ClusterClient` as far as it is needed."""

    def __init__(self) -> None:
        self.ids = {"t": "first", "u": "other"}
        self.logs = {0: Watermarks(10, 100, 100), 1: Watermarks(0, 5, 5)}
        self.errors: list[KafkaError] = []
        self.threads: set[str] = set()
        self.closed = 0

    def topic_ids(self, topics: Iterable[str], *, timeout_s: float = 1.0) -> dict[str, str]:
        self.threads.add(threading.current_thread().name)
        if self.errors:
            raise self.errors.pop(0)
        return {topic: self.ids[topic] for topic in topics if topic in self.ids}

    def partitions(self, topic: str) -> list[int]:
        return sorted(self.logs)

    def watermarks(self, topic: str, partitions: Sequence[int]) -> dict[int, Watermarks]:
        return {partition: self.logs[partition] for partition in partitions}

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(topic_watch, "connect_cluster", lambda _: cluster)
    monkeypatch.setattr(topic_watch, "CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr(topic_watch, "_TRY_AGAIN_S", 0.01)
    return cluster


@pytest.fixture
def watch(cluster: Cluster) -> Iterator[TopicWatch]:
    watch = TopicWatch(KafkaConfig("localhost:9092"), [P0, P1], {"t": "first"})
    yield watch
    watch.close()
    assert cluster.closed == 1


def changes(watch: TopicWatch) -> list[LogChange]:
    """Wait for what is found next."""
    return wait_until(watch.take)


def test_topic_created_anew_is_told_once_with_where_it_begins(
    watch: TopicWatch, cluster: Cluster
) -> None:
    # It has a partition less.
    cluster.logs = {0: Watermarks(3, 7, 7)}
    cluster.ids["t"] = "second"
    ((error, starts),) = changes(watch)
    assert isinstance(error, TopicRecreated)
    assert (error.topic, error.former_id, error.topic_id) == ("t", "first", "second")
    assert starts == {P0: 3, P1: None}
    cluster.threads.clear()
    wait_until(lambda: cluster.threads)
    cluster.threads.clear()
    wait_until(lambda: cluster.threads)
    assert watch.take() == []

    watch.accept(error)
    cluster.ids["t"] = "third"
    ((error, _),) = changes(watch)
    assert isinstance(error, TopicRecreated)
    assert error.former_id == "second"


def test_outage_is_waited_for_and_a_topic_that_is_gone_is_not_created_anew(
    watch: TopicWatch, cluster: Cluster
) -> None:
    gone = cluster.ids.pop("t")
    cluster.errors = [BrokerUnavailable("away", retriable=True), AuthorizationFailed("refused")]
    wait_until(lambda: not cluster.errors)
    cluster.threads.clear()
    wait_until(lambda: cluster.threads)
    assert watch.take() == []
    assert cluster.threads == {"sabot_ray-topics"}
    assert watch.confirmed(["t"], timeout_s=1.0) == {}
    cluster.ids["t"] = gone
    assert watch.confirmed(["t"], timeout_s=1.0) == {"t": "first"}


def test_commit_leaves_out_a_topic_created_anew_until_it_is_accepted(
    watch: TopicWatch, cluster: Cluster
) -> None:
    assert watch.confirmed(["t", "u"], timeout_s=1.0) == {"t": "first", "u": "other"}
    assert watch.uncommitted is None
    cluster.ids["t"] = "second"
    assert watch.confirmed(["t", "u"], timeout_s=1.0) == {"u": "other"}
    assert watch.uncommitted is not None
    watch.accept(watch.uncommitted)
    assert watch.confirmed(["t"], timeout_s=1.0) == {"t": "second"}
    assert watch.uncommitted is None


@pytest.mark.parametrize(
    ("offset", "diverges_at", "available"), [(4, None, 10), (120, None, 100), (90, 60, 60)]
)
def test_offset_that_is_not_to_be_had_is_a_loss(
    watch: TopicWatch, cluster: Cluster, offset: int, diverges_at: int | None, available: int
) -> None:
    refused = OffsetOutOfRange("not to be had")
    refused.diverges_at = diverges_at
    # Whoever is away at first is asked again.
    cluster.errors = [BrokerUnavailable("away", retriable=True)] * 3
    watch.examine(P0, offset, refused)
    ((error, starts),) = changes(watch)
    assert isinstance(error, DataLoss)
    assert (error.wanted_offset, error.available_offset) == (offset, available)
    assert starts == {P0: available}


def test_offset_that_is_there_again_is_no_loss(watch: TopicWatch) -> None:
    watch.examine(P0, 50, OUT_OF_RANGE)
    assert changes(watch) == [LogChange(None, {P0: 50})]


def test_loss_in_a_topic_created_anew_is_told_as_that_and_once(
    watch: TopicWatch, cluster: Cluster
) -> None:
    cluster.ids["t"] = "second"
    watch.examine(P0, 4, OUT_OF_RANGE)
    watch.examine(P1, 4000, OUT_OF_RANGE)
    ((error, starts),) = changes(watch)
    assert isinstance(error, TopicRecreated)
    assert starts == {P0: 10, P1: 0}
    # Both questions are answered, once the ids are looked at again.
    for _ in range(2):
        cluster.threads.clear()
        wait_until(lambda: cluster.threads)
    assert watch.take() == []


def test_refusal_while_a_loss_is_looked_for_is_told(watch: TopicWatch, cluster: Cluster) -> None:
    refused = AuthorizationFailed("may not DESCRIBE")
    cluster.errors = [refused] * 5
    watch.examine(P0, 4, OUT_OF_RANGE)
    ((error, _),) = changes(watch)
    assert error is refused


def test_without_ids_losses_are_found_and_nothing_is_compared(cluster: Cluster) -> None:
    watch = TopicWatch(KafkaConfig("localhost:9092"), [P0], {})
    assert watch.confirmed(["t"], timeout_s=1.0) == {"t": ""}
    watch.examine(P0, 4, OUT_OF_RANGE)
    ((error, _),) = changes(watch)
    assert isinstance(error, DataLoss)
    watch.close()
    assert cluster.threads == set()
