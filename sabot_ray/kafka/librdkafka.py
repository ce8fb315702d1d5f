"""The native `PartitionSource`: librdkafka and the C++ decoder, by way of `sabot_ray._native`."""

from __future__ import annotations

import importlib.util
import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa

from sabot_ray.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    BrokerUnavailable,
    ConfigError,
    DecodeError,
    KafkaError,
    OffsetOutOfRange,
)
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.options import REFUSED_GRACE_S
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.kafka.standalone import StandaloneSource
from sabot_ray.types import SourceStats, Watermarks

if TYPE_CHECKING:
    from types import ModuleType

#: librdkafka's own log lines.
client_log = logging.getLogger("sabot_ray.librdkafka")

#: Longest time that `LibrdkafkaSource.watermarks` waits, in seconds.
_WATERMARKS_TIMEOUT_S: Final = 10.0
#: A token is renewed after this part of its life, as librdkafka does it...
_TOKEN_LIFE: Final = 0.8
#: ...and where that fails, again after this time, in seconds.
_TOKEN_RETRY_S: Final = 10.0
#: What librdkafka allocates for each record beside its key and value, in bytes.
_RECORD_OVERHEAD: Final = 320
#: librdkafka wants a group even where nobody joins one. It is never committed to.
_NO_GROUP: Final = "sabot_ray"
#: How long a broker without new records may hold a fetch of several partitions, where the config
#: does not say. A client has one fetch under way with each broker, and leaves out of it what has
#: enough at hand; with Kafka's 500 ms a partition far behind would wait that long for those that
#: have nothing new (one of 16: 47 thousand records a second). Shorter ones cost both sides: 20 ms
#: twice as much as 50. In milliseconds.
SHARED_FETCH_WAIT_MS: Final = 50
#: How often librdkafka tells of its connections, in milliseconds.
_STATISTICS_INTERVAL_MS: Final = 2000
#: How late an answer may be before a connection counts as dead, beside ``fetch.max.wait.ms``, which
#: a broker without new records takes by design. In milliseconds.
_ANSWER_TIMEOUT_MS: Final = 1000
#: librdkafka's states of a broker that can be asked something.
_CONNECTED: Final = frozenset({"UP", "REAUTH"})
#: Its states of a partition that nobody wants to read.
_NOT_FETCHED: Final = frozenset({"none", "stopping", "stopped"})
#: Where the log of a leader epoch ends: librdkafka tells it of a truncated log, in this text only;
#: -1 where the leader knows no epoch that old.
_LOG_TRUNCATED: Final = re.compile(r"broker end offset is (-?\d+) \(offset leader epoch")
#: syslog's levels, 0 to 7.
_LOG_LEVELS: Final = (
    logging.CRITICAL,
    logging.CRITICAL,
    logging.CRITICAL,
    logging.ERROR,
    logging.WARNING,
    logging.INFO,
    logging.INFO,
    logging.DEBUG,
)


def load_native() -> ModuleType:
    """Return the native module, with librdkafka in it.

    Raises:
        BackendUnavailable: It cannot be loaded on this machine.
    """
    try:
        import confluent_kafka.cimpl
    except ImportError as error:
        raise BackendUnavailable(
            f"{error}; install confluent-kafka >= 2.13.2, which brings librdkafka"
        ) from error
    try:
        from sabot_ray import _native
    except ImportError as error:
        is_missing = importlib.util.find_spec("sabot_ray._native") is None
        reason = "this installation has no native module (a pure-Python build)"
        raise BackendUnavailable(
            f"{reason if is_missing else error}; install a sabot-ray that was built with a C++ "
            "compiler"
        ) from error
    _native.load_librdkafka(confluent_kafka.cimpl.__file__)
    return _native


def load_error() -> str | None:
    """Say why the native backend cannot be loaded here; None if it can."""
    try:
        load_native()
    except BackendUnavailable as error:
        return error.message
    return None


class LibrdkafkaConnection:
    """Looks after what a native client cannot do by itself: its log, and its bearer token.

    Args:
        config: How to reach the brokers.
        client: A ``Consumer`` or a ``Producer`` of the native module.

    Raises:
        ConfigError: The token cannot be had here.
    """

    def __init__(self, config: KafkaConfig, client: Any) -> None:
        self._config = config
        self._client = client
        self._token_due_at = float("inf")
        if config.has_token:
            self._set_token()

    def forward_log(self) -> None:
        """Hand librdkafka's log lines since the last call to ``sabot_ray.librdkafka``'s logger."""
        for level, text in self._client.take_log():
            client_log.log(_LOG_LEVELS[level], "%s", text)

    def renew_token(self) -> None:
        """Ask for a new bearer token, where the one at hand is about to expire."""
        if time.time() < self._token_due_at:
            return
        try:
            self._set_token()
        except ConfigError as error:
            # The old one may still do, and the brokers tell when it does no longer.
            self._token_due_at = time.time() + _TOKEN_RETRY_S
            client_log.warning("the token could not be renewed: %s", error)

    def _set_token(self) -> None:
        token = self._config.token()
        self._client.set_token(token.text, token.expires_at_s)
        now = time.time()
        self._token_due_at = now + _TOKEN_LIFE * (token.expires_at_s - now)


class LibrdkafkaClient:
    """Opens sources that share one librdkafka handle: its connections and its threads.

    Args:
        config: How to reach the brokers.
        group_id: The group by which brokers account for the client; nothing joins or commits here.
        prefetch_bytes: Limit of the memory for what each source fetches ahead, where the config
            gives none.
        is_shared: Whether it opens sources of several partitions.

    Raises:
        BackendUnavailable: The native module or librdkafka cannot be loaded on this machine.
        ConfigError: librdkafka refuses a setting.
    """

    def __init__(
        self,
        config: KafkaConfig,
        group_id: str | None = None,
        *,
        prefetch_bytes: int = 64 << 20,
        is_shared: bool = False,
    ) -> None:
        self._native = load_native()
        settings = {
            **({"fetch.wait.max.ms": str(SHARED_FETCH_WAIT_MS)} if is_shared else {}),
            # Half for keys and values, which alone count in the second limit, and half for what
            # comes with each record: of small ones that is the larger part.
            "queued.min.messages": str(max(1, prefetch_bytes // 2 // _RECORD_OVERHEAD)),
            "queued.max.messages.kbytes": str(max(1, prefetch_bytes // 2 >> 10)),
            # How long a topic that the brokers do not know counts as just created.
            "topic.metadata.propagation.max.ms": "5000",
            **config.librdkafka_settings(),
            "group.id": group_id or _NO_GROUP,
            "statistics.interval.ms": str(_STATISTICS_INTERVAL_MS),
        }
        self._answer_timeout_ms = config.get("fetch.max.wait.ms", 500) + _ANSWER_TIMEOUT_MS
        self._cut_off_since: float | None = None
        self._consumer = self._native.Consumer(settings)
        self._connection = LibrdkafkaConnection(config, self._consumer)
        # When the brokers refused the credentials, where nobody has looked since then.
        self._refused_at: float | None = None
        self._sources: set[LibrdkafkaSource] = set()
        # By their number; sources share them.
        self._decode_threads: dict[int, Any] = {}

    def open_source(
        self,
        spec: SourceSpec,
        partition: int,
        start_offset: int,
        end_offset: int | None = None,
        leader_epoch: int = -1,
    ) -> LibrdkafkaSource:
        """See `sabot_ray.kafka.source.SourceClient.open_source`."""
        return LibrdkafkaSource.of_client(
            self, spec, partition, start_offset, end_offset, leader_epoch
        )

    def decode_threads(self, count: int) -> Any:
        """Return the threads that decode for the sources; None where the polling one does alone."""
        if count == 1:
            return None
        if count not in self._decode_threads:
            self._decode_threads[count] = self._native.DecodeThreads(count)
        return self._decode_threads[count]

    def client_errors(self) -> list[KafkaError]:
        """Return the newest errors of the connections, oldest first.

        librdkafka goes on after them by itself, also after refused credentials and failed TLS
        handshakes, so no poll raises them; they tell why nothing comes.
        """
        errors: list[KafkaError] = self._consumer.client_errors()
        return errors

    def look_after_connections(self, *, is_idle: bool) -> None:
        """Renew the token; where nothing comes, raise what the brokers have against us.

        librdkafka tries refused credentials for ever, which would look like an idle topic.

        Args:
            is_idle: Whether nothing came lately.

        Raises:
            AuthenticationFailed: The credentials were refused, and still are.
        """
        self._connection.renew_token()
        source = next(iter(self._sources), None)
        if not is_idle or source is None:
            return
        now = time.monotonic()
        errors: list[KafkaError] = self._consumer.take_errors()
        if self._refused_at is None:
            if any(isinstance(error, AuthenticationFailed) for error in errors):
                self._refused_at = now
        elif now - self._refused_at > REFUSED_GRACE_S:
            self._refused_at = None
            try:
                source.watermarks()
            except BrokerUnavailable:
                # Another trouble by now, which passes.
                return

    def forward_log(self) -> None:
        """See `LibrdkafkaConnection.forward_log`."""
        self._connection.forward_log()

    def news_count(self) -> int:
        """See `sabot_ray.kafka.source.SourceClient.news_count`."""
        count: int = self._consumer.news_count()
        return count

    def wait_for_news(self, seen: int, timeout_s: float) -> None:
        """See `sabot_ray.kafka.source.SourceClient.wait_for_news`."""
        self._consumer.wait_for_news(seen, timeout_s)
        # A partition is polled only where it has news.
        self.forward_log()
        self.look_after_connections(is_idle=True)

    def wake(self) -> None:
        """See `sabot_ray.kafka.source.SourceClient.wake`."""
        self._consumer.wake()

    def cut_off_s(self) -> float:
        """See `sabot_ray.kafka.source.SourceClient.cut_off_s`."""
        if statistics := self._consumer.take_statistics():
            if not _is_cut_off(orjson.loads(statistics), self._answer_timeout_ms):
                self._cut_off_since = None
            elif self._cut_off_since is None:
                self._cut_off_since = time.monotonic()
        return 0.0 if self._cut_off_since is None else time.monotonic() - self._cut_off_since

    def close(self) -> None:
        """Close the sources and the connections. Idempotent, at most about a second."""
        for source in tuple(self._sources):
            source.close()
        self._decode_threads.clear()
        self._consumer.close()


def _is_cut_off(statistics: dict[str, Any], answer_timeout_ms: int) -> bool:
    """Tell whether a partition is to be fetched whose broker does not answer.

    Args:
        statistics: librdkafka's, as in its STATISTICS.md.
        answer_timeout_ms: How late an answer may be.
    """
    answering = {
        broker["nodeid"]
        for broker in statistics["brokers"].values()
        # A logical one is a second connection, to a group's coordinator.
        if broker["source"] != "logical"
        and broker["state"] in _CONNECTED
        # A frozen broker's connection stays up.
        and not (broker["waitresp_cnt"] and broker["rxidle"] > answer_timeout_ms * 1000)
    }
    return any(
        partition["broker"] not in answering
        for topic in statistics["topics"].values()
        for partition in topic["partitions"].values()
        if partition["fetch_state"] not in _NOT_FETCHED
    )


class LibrdkafkaSource(StandaloneSource[LibrdkafkaClient]):
    """Reads one partition through librdkafka; see `PartitionSource` and `StandaloneSource`."""

    @classmethod
    def _connect(
        cls, config: KafkaConfig, group_id: str | None, prefetch_bytes: int
    ) -> LibrdkafkaClient:
        return LibrdkafkaClient(config, group_id, prefetch_bytes=prefetch_bytes)

    def _open(self, start_offset: int, end_offset: int | None, leader_epoch: int) -> None:
        self._pipeline = self._client._native.PartitionPipeline(
            self._client._consumer,
            self._spec.topic,
            self._partition,
            start_offset,
            end_offset,
            leader_epoch,
            self._spec.codec,
            self._spec.key_codec,
            self._spec.columns,
            self._schema,
            skip_tombstones=self._spec.tombstones == "skip",
            skip_decode_errors=self._spec.on_decode_error != "fail",
            report_decode_errors=self._spec.on_decode_error == "report",
            max_batch_bytes=self._spec.max_batch_bytes,
            linger_s=self._spec.linger_s,
            await_backlog=self._spec.await_backlog,
            decode_threads=self._client.decode_threads(self._spec.decode_threads),
        )
        self._client._sources.add(self)

    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        """See `PartitionSource.poll`."""
        try:
            batch: pa.RecordBatch = self._pipeline.poll(max_rows, timeout_s)
        except OffsetOutOfRange as error:
            if truncated := _LOG_TRUNCATED.search(error.message):
                error.diverges_at = max(int(truncated[1]), 0)
            raise
        finally:
            self._client.forward_log()
        self._client.look_after_connections(is_idle=not batch.num_rows and not self._is_done())
        return batch

    def take_rejected(self) -> list[DecodeError]:
        """See `PartitionSource.take_rejected`."""
        rejected: list[DecodeError] = self._pipeline.take_rejected()
        return rejected

    def position(self) -> int:
        """See `PartitionSource.position`."""
        offset: int = self._pipeline.position()
        return offset

    def leader_epoch(self) -> int:
        """See `PartitionSource.leader_epoch`."""
        epoch: int = self._pipeline.leader_epoch()
        return epoch

    def has_news(self) -> bool:
        """See `PartitionSource.has_news`."""
        news: bool = self._pipeline.has_news()
        return news

    def backlog(self) -> int:
        """See `PartitionSource.backlog`."""
        offsets: int = self._pipeline.backlog()
        return offsets

    def watermarks(self) -> Watermarks:
        """See `PartitionSource.watermarks`."""
        bounds: Watermarks = self._client._consumer.watermarks(
            self._spec.topic, self._partition, _WATERMARKS_TIMEOUT_S
        )
        return bounds

    def seek(self, offset: int) -> None:
        """See `PartitionSource.seek`."""
        self._pipeline.seek(offset)

    def stats(self) -> SourceStats:
        """See `PartitionSource.stats`."""
        stats: SourceStats = self._pipeline.stats()
        return stats

    def _stop(self) -> None:
        self._pipeline.close()
        self._client._sources.discard(self)

    def _is_done(self) -> bool:
        done: bool = self._pipeline.done()
        return done
