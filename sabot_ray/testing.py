"""A Kafka for demos and tests, inside the process, and a way to fill a topic."""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import confluent_kafka
import confluent_kafka.cimpl
import orjson

from sabot_ray.errors import BrokerUnavailable, ConfigError, KafkaError

__all__ = ["EmbeddedKafka", "Record", "produce"]


class Record(NamedTuple):
    """One record to produce.

    Attributes:
        value: The value; None is a tombstone.
        key: The key.
        partition: The partition; -1 leaves the choice to the client's partitioner.
        timestamp_ms: Milliseconds since the epoch; 0 is now.
        headers: Names and values, in order, duplicates allowed.
    """

    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    timestamp_ms: int = 0
    headers: tuple[tuple[str, bytes | None], ...] = ()


def produce(
    bootstrap_servers: str,
    topic: str,
    records: Iterable[Record | Mapping[str, Any] | bytes | None],
    *,
    timeout_s: float = 30.0,
    **settings: Any,
) -> list[int]:
    """Write records to a topic and wait until the brokers have acknowledged every one of them.

    Where brokers fail meanwhile, a record may be written twice: pass ``enable_idempotence=True``.

    Args:
        bootstrap_servers: ``"host:port"``, several with commas between.
        topic: The topic; records of one partition keep their order.
        records: Records, or only their values: bytes, None, or a mapping that is written as JSON.
        timeout_s: Longest time to wait for the acknowledgements after the last record.
        settings: Further settings of the producer, with underscores for dots.

    Returns:
        Each record's offset in its partition, in the order of ``records``.

    Raises:
        KafkaError: A record was refused; others may have been written.
        BrokerUnavailable: An acknowledgement did not come in time.
    """
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            # One request at a time keeps the order through retries; an idempotent producer would,
            # too, but waits half a second for its id.
            "max.in.flight.requests.per.connection": 1,
            "linger.ms": 5,
            # What goes wrong is raised; librdkafka would also print it.
            "log_level": 0,
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
    )
    offsets: list[int | None] = []
    refused: list[confluent_kafka.KafkaError] = []

    def send(index: int, record: Record) -> None:
        def acknowledge(error: confluent_kafka.KafkaError | None, message: Any) -> None:
            if error is None:
                offsets[index] = message.offset()
            else:
                refused.append(error)

        producer.produce(
            topic,
            value=record.value,
            key=record.key,
            partition=record.partition,
            timestamp=record.timestamp_ms,
            headers=list(record.headers) or None,
            on_delivery=acknowledge,
        )

    for index, given in enumerate(records):
        record = _as_record(given)
        offsets.append(None)
        while True:
            try:
                send(index, record)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    missing = producer.flush(timeout_s)
    if refused:
        code, name = refused[0].code(), refused[0].name()
        raise KafkaError(
            f"topic '{topic}': {len(refused)} of {len(offsets)} records were refused, "
            f"the first with {name}: {refused[0].str()}",
            code,
            name,
        )
    if missing:
        producer.purge()
        raise BrokerUnavailable(
            f"topic '{topic}': {missing} of {len(offsets)} records are not acknowledged after "
            f"{timeout_s:g} s; is a broker listening on {bootstrap_servers}?",
            name="_TIMED_OUT",
            retriable=True,
        )
    return [offset for offset in offsets if offset is not None]


def _as_record(given: Record | Mapping[str, Any] | bytes | None) -> Record:
    if isinstance(given, Record):
        return given
    return Record(orjson.dumps(given) if isinstance(given, Mapping) else given)


class EmbeddedKafka:
    """Runs librdkafka's mock cluster: brokers on loopback ports, inside this process.

    It starts in milliseconds, needs no Java and keeps nothing on disk. Any Kafka client of this
    machine can connect. What it is not:

    - It keeps about 5 MB per partition and drops the oldest records beyond that.
    - No transactions worth the name: no last stable offset, no aborted records, no fencing.
    - No time lookups (they answer -1) and no topic ids; creating, describing and listing topics and
      groups by an admin client times out or is refused. Use `create_topic`.
    - A client that names an unknown topic creates it, with four partitions.

    So it suits demos and the happy path of tests. Whoever tests delivery needs a real broker.

    Example::

        with EmbeddedKafka(partitions=2) as kafka:
            kafka.produce("orders", [{"id": 1}, {"id": 2}])
            print(kafka.bootstrap_servers)

    Args:
        partitions: Number of partitions of topics that are created without saying how many.
        brokers: Number of brokers.

    Raises:
        ConfigError: A number is below 1.
        KafkaError: librdkafka could not start the cluster.
    """

    def __init__(self, partitions: int = 1, brokers: int = 1) -> None:
        if partitions < 1 or brokers < 1:
            raise ConfigError(
                f"EmbeddedKafka: {partitions} partitions on {brokers} brokers; at least 1 of each"
            )
        self._partitions = partitions
        self._topics: set[str] = set()
        library = _library()
        conf = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(conf, b"log_level", b"0", None, 0)
        reason = ctypes.create_string_buffer(256)
        # Takes the ownership of conf. The producer only carries the cluster, it never connects.
        client = library.rd_kafka_new(_RD_KAFKA_PRODUCER, conf, reason, len(reason))
        if not client:
            library.rd_kafka_conf_destroy(conf)
            raise KafkaError(f"EmbeddedKafka: librdkafka did not start: {reason.value.decode()}")
        cluster = library.rd_kafka_mock_cluster_new(client, brokers)
        if not cluster:
            library.rd_kafka_destroy(client)
            raise KafkaError(f"EmbeddedKafka: librdkafka could not open {brokers} loopback ports")
        self._cluster = cluster
        self._bootstrap_servers: str = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()
        self._destroy = weakref.finalize(self, _destroy, client, cluster)

    @property
    def bootstrap_servers(self) -> str:
        """The brokers' addresses, ``"host:port"`` with commas between."""
        return self._bootstrap_servers

    def create_topic(self, name: str, partitions: int | None = None) -> None:
        """Create a topic.

        Args:
            name: The topic.
            partitions: Number of partitions; by default the cluster's.

        Raises:
            ConfigError: The number is below 1, or the cluster is closed.
            KafkaError: The topic exists already.
        """
        count = self._partitions if partitions is None else partitions
        if count < 1:
            raise ConfigError(f"topic '{name}': {count} partitions; at least 1")
        if not self._destroy.alive:
            raise ConfigError(f"topic '{name}': the embedded Kafka is closed")
        code = _library().rd_kafka_mock_topic_create(self._cluster, name.encode(), count, 1)
        if code:
            error = confluent_kafka.KafkaError(code)
            raise KafkaError(f"topic '{name}': {error.str()}", code, error.name())
        self._topics.add(name)

    def produce(
        self, topic: str, records: Iterable[Record | Mapping[str, Any] | bytes | None]
    ) -> list[int]:
        """Write records and wait for their acknowledgement; see `sabot_ray.testing.produce`.

        A topic that `create_topic` has not made is created with the cluster's number of partitions.

        Args:
            topic: The topic.
            records: Records, or only their values: bytes, None, or a mapping for JSON.

        Returns:
            Each record's offset in its partition, in the order of ``records``.

        Raises:
            KafkaError: A record was refused.
            ConfigError: The cluster is closed.
        """
        if not self._destroy.alive or topic not in self._topics:
            self.create_topic(topic)
        return produce(self._bootstrap_servers, topic, records)

    def close(self) -> None:
        """Stop the brokers and forget every record; idempotent. Close the clients first."""
        self._destroy()

    def __enter__(self) -> EmbeddedKafka:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


_RD_KAFKA_PRODUCER = 0


@functools.cache
def _library() -> ctypes.CDLL:
    # The extension module resolves librdkafka's symbols, so this opens no second copy of it.
    library = ctypes.CDLL(confluent_kafka.cimpl.__file__)
    pointer, string, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_destroy", None, [pointer]),
        ("rd_kafka_conf_set", integer, [pointer, string, string, string, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [integer, pointer, string, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, integer]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", string, [pointer]),
        ("rd_kafka_mock_topic_create", integer, [pointer, string, integer, integer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _destroy(client: int, cluster: int) -> None:
    library = _library()
    library.rd_kafka_mock_cluster_destroy(cluster)
    library.rd_kafka_destroy(client)
