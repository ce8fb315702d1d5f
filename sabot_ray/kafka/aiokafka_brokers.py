"""Connections to brokers, and what is asked of them, on aiokafka's wire protocol.

One level below ``AIOKafkaConsumer``, which cannot keep the promises made here: it asks for metadata
in a way that creates a missing topic, waits silently when a topic is gone, drops the records that
were read before a corrupt one, and makes a dataclass of every record.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, BaseSaslAuthenticator, collect_hosts
from aiokafka.errors import KafkaError as AiokafkaError
from aiokafka.errors import SaslAuthenticationFailed
from aiokafka.protocol.admin import (
    CreateTopicsRequest,
    SaslAuthenticateRequest_v0,
    SaslAuthenticateRequest_v1,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from sabot_ray.errors import AuthenticationFailed, BrokerUnavailable, KafkaError
from sabot_ray.kafka.aiokafka_errors import from_code, kafka_error
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.types import OffsetAndMetadata, TopicPartition, Watermarks, by_topic

READ_UNCOMMITTED: Final = 0
READ_COMMITTED: Final = 1

_UNKNOWN_TOPIC_OR_PARTITION: Final = 3
_TOPIC_ALREADY_EXISTS: Final = 36
_CLIENT: Final = -1
_GROUP: Final = 0
_EARLIEST: Final = -2
_LATEST: Final = -1


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int


class _TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Asks for a new token whenever a connection is made."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config

    async def token(self) -> str:
        # It may ask an identity provider, and the loop must not wait for that.
        return (await asyncio.to_thread(self._config.token)).text


def security_arguments(config: KafkaConfig) -> dict[str, Any]:
    """Return aiokafka's arguments about TLS and SASL, secrets resolved; it may take its time.

    Raises:
        ConfigError: A secret or a file cannot be had here, or aiokafka lacks a setting.
    """
    config.check_aiokafka()
    arguments = config.aiokafka_security()
    if config.has_token:
        arguments["sasl_oauth_token_provider"] = _TokenProvider(config)
    return arguments


class _TokenAuthenticator(BaseSaslAuthenticator):  # type: ignore[misc]
    """Offers a token; aiokafka's own does not look at the answer, and takes a refusal for a yes."""

    def __init__(self, provider: _TokenProvider) -> None:
        self._provider = provider
        self._offered = False

    async def step(self, answer: bytes | None) -> tuple[bytes, bool] | None:
        if not self._offered:
            self._offered = True
            return f"n,,\x01auth=Bearer {await self._provider.token()}\x01\x01".encode(), True
        if answer:
            # RFC 7628: the server says why, in JSON, and there is nothing left to negotiate.
            raise SaslAuthenticationFailed(answer.decode("utf-8", "replace"))
        return None


class _Connection(AIOKafkaConnection):  # type: ignore[misc]
    _transport: asyncio.WriteTransport | None = None

    def close(self, reason: Any = None, exc: Any = None) -> Any:
        if self._writer is not None:
            self._transport = self._writer.transport
        return super().close(reason, exc)

    async def closed(self) -> None:
        """Close, and wait until it is done: a transport that nobody awaits counts as leaked."""
        closed = self.close()
        if self._transport is None:
            return
        try:
            # The transport closes in the loop's next round; with TLS the broker has a say, too.
            await asyncio.wait({closed}, timeout=0.2)
        finally:
            # Also where this task is cancelled, for example because the loop ends.
            if not closed.done():
                self._transport.abort()

    def authenticator_oauth(self) -> _TokenAuthenticator:
        return _TokenAuthenticator(self._sasl_oauth_token_provider)


def _is_harmless(record: logging.LogRecord) -> bool:
    """Tell whether a log line of aiokafka's holds no credentials: at DEBUG it prints requests."""
    secret = SaslAuthenticateRequest_v0 | SaslAuthenticateRequest_v1
    return not any(isinstance(argument, secret) for argument in record.args or ())


logging.getLogger("aiokafka.conn").addFilter(_is_harmless)


class Brokers:
    """Finds the brokers of a cluster and connects to them; holds no connection itself.

    Args:
        config: How to reach them.
    """

    def __init__(self, config: KafkaConfig) -> None:
        config.check_aiokafka()
        self._config = config
        settings = config.aiokafka_settings()
        servers = [server.rpartition("://")[2] for server in settings["bootstrap_servers"]]
        self._bootstrap = [Address(host, port) for host, port, _ in collect_hosts(servers)]
        self._known: list[Address] = []
        # Who failed last. A frozen broker takes its whole time-out to fail.
        self._failed: Address | None = None
        self.servers = config.bootstrap_servers
        self._connection_settings: dict[str, Any] = {
            "client_id": settings["client_id"],
            # A broker in no trouble at all answers a fetch only after fetch_max_wait_ms.
            "request_timeout_ms": settings["request_timeout_ms"]
            + settings.get("fetch_max_wait_ms", 500),
            "max_idle_ms": settings.get("connections_max_idle_ms", 540_000),
        }
        self._read_committed = settings["isolation_level"] == "read_committed"

    @asynccontextmanager
    async def connected(self, address: Address) -> AsyncIterator[AIOKafkaConnection]:
        """Connect to a broker for the length of a ``with`` block.

        Raises:
            ConfigError: A secret or a certificate cannot be had here.
            KafkaError: The connection failed, also within the block.
        """
        host, port = address
        # Now, so that what was renewed meanwhile is used; in a thread, as files are read.
        security = await asyncio.to_thread(security_arguments, self._config)
        try:
            connection = _Connection(host, port, **self._connection_settings, **security)
            try:
                await _connect(connection, f"broker {host}:{port}")
                yield connection
            finally:
                await connection.closed()
        except (AiokafkaError, OSError) as error:
            self._failed = address
            raise kafka_error(error, f"broker {host}:{port}") from error

    @asynccontextmanager
    async def connected_to_leader(
        self, topic: str, partition: int
    ) -> AsyncIterator[AIOKafkaConnection]:
        """Connect to the leader of a partition for the length of a ``with`` block.

        Raises:
            UnknownTopicOrPartition: The topic or the partition does not exist (yet).
            KafkaError: No broker answers, the partition has no leader, or the connection failed.
        """
        leader = _leader(await self.leaders(topic), topic, partition)
        async with self.connected(leader) as connection:
            yield connection

    async def leaders(self, topic: str) -> dict[int, Address | None]:
        """Return where each partition's leader listens, None where there is no leader now.

        Raises:
            UnknownTopicOrPartition: The topic does not exist (yet).
            KafkaError: No broker answers, or the topic may not be read.
        """
        # The request would create the topic by default.
        request = MetadataRequest([topic], allow_auto_topic_creation=False)
        answer = await self._ask_any(request)
        addresses = {node: Address(host, port) for node, host, port, *_ in answer.brokers}
        self._known = list(addresses.values())
        code, _, *_, partitions = answer.topics[0]
        if code == _UNKNOWN_TOPIC_OR_PARTITION:
            raise from_code(
                code,
                f"topic '{topic}' does not exist on {self.servers}; create it first, or check its "
                "spelling",
            )
        if code:
            raise from_code(code, f"topic '{topic}'")
        return {partition: addresses.get(leader) for _, partition, leader, *_ in partitions}

    async def all_leaders(self) -> dict[str, dict[int, int | None]]:
        """Return the leader's node id of every partition, by topic; None where there is none now.

        Raises:
            KafkaError: No broker answers.
        """
        answer = await self._ask_any(MetadataRequest(None, allow_auto_topic_creation=False))
        return {
            topic: {p: leader if leader >= 0 else None for _, p, leader, *_ in partitions}
            for _, topic, *_, partitions in answer.topics
        }

    async def cluster_id(self) -> str:
        """Return the id that the cluster has given itself.

        Raises:
            KafkaError: No broker answers.
        """
        answer = await self._ask_any(MetadataRequest([], allow_auto_topic_creation=False))
        return str(answer.cluster_id)

    async def create_topic(self, topic: str, partitions: int, timeout_s: float) -> None:
        """Create a topic, unless it exists, with the brokers' default replication.

        Raises:
            KafkaError: No broker answers, or the controller refuses.
        """
        metadata = await self._ask_any(MetadataRequest([], allow_auto_topic_creation=False))
        addresses = {node: Address(host, port) for node, host, port, *_ in metadata.brokers}
        if metadata.controller_id not in addresses:
            raise BrokerUnavailable("the cluster has no controller now", retriable=True)
        request = CreateTopicsRequest(
            [(topic, partitions, -1, [], [])], int(timeout_s * 1000), False
        )
        async with self.connected(addresses[metadata.controller_id]) as connection:
            answer = await connection.send(request)
        ((_, code, *reason),) = answer.topic_errors
        if code not in (0, _TOPIC_ALREADY_EXISTS):
            told = f" ({reason[0]})" if reason and reason[0] else ""
            raise from_code(code, f"topic '{topic}': creating it{told}")

    async def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, Watermarks]:
        """Ask the leaders for the bounds of the partitions' logs.

        Raises:
            UnknownTopicOrPartition: The topic or a partition does not exist (yet).
            KafkaError: A broker does not answer, or a partition has no leader now.
        """
        found: dict[int, Watermarks] = {}
        for leader, led in (await self._led(topic, partitions)).items():
            earliest, latest = dict.fromkeys(led, _EARLIEST), dict.fromkeys(led, _LATEST)
            async with self.connected(leader) as connection:
                low = await _list_offsets(connection, topic, earliest, READ_UNCOMMITTED)
                high = await _list_offsets(connection, topic, latest, READ_UNCOMMITTED)
                stable = high
                if self._read_committed:
                    stable = await _list_offsets(connection, topic, latest, READ_COMMITTED)
            found.update({p: Watermarks(low[p], high[p], stable[p]) for p in led})
        return found

    async def offsets_at(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int | None]:
        """Ask the leaders for the first offsets whose records are not older than a time.

        Raises:
            UnknownTopicOrPartition: The topic or a partition does not exist (yet).
            KafkaError: A broker does not answer, or a partition has no leader now.
        """
        found: dict[int, int | None] = {}
        for leader, led in (await self._led(topic, times_ms)).items():
            wanted = {partition: times_ms[partition] for partition in led}
            async with self.connected(leader) as connection:
                offsets = await _list_offsets(connection, topic, wanted, READ_UNCOMMITTED)
            found.update({p: offset if offset >= 0 else None for p, offset in offsets.items()})
        return found

    async def _led(self, topic: str, partitions: Iterable[int]) -> dict[Address, list[int]]:
        """Return the partitions by their leaders."""
        leaders = await self.leaders(topic)
        by_leader: defaultdict[Address, list[int]] = defaultdict(list)
        for partition in partitions:
            by_leader[_leader(leaders, topic, partition)].append(partition)
        return by_leader

    async def coordinator(self, group_id: str) -> Address:
        """Return where a consumer group's coordinator listens.

        Raises:
            KafkaError: No broker answers, there is no coordinator now, or the group is not ours.
        """
        answer = await self._ask_any(FindCoordinatorRequest(group_id, _GROUP))
        if answer.error_code:
            raise from_code(answer.error_code, f"group '{group_id}': coordinator")
        return Address(answer.host, answer.port)

    async def _ask_any(self, request: MetadataRequest | FindCoordinatorRequest) -> Any:
        """Send a request to whichever broker answers first."""
        known = random.sample(self._known, len(self._known))
        known.sort(key=lambda address: address == self._failed)
        failure: KafkaError | None = None
        # The bootstrap servers last: they may be the only ones left that are right.
        for address in dict.fromkeys([*known, *self._bootstrap]):
            try:
                async with self.connected(address) as connection:
                    return await connection.send(request)
            except BrokerUnavailable as error:
                failure = error
        assert failure is not None
        raise BrokerUnavailable(
            f"no broker of {self.servers} answers: {failure.message}; are host and port right, is "
            "a broker running there, does the listener ask for TLS or SASL?",
            failure.code,
            failure.name,
            retriable=True,
        )


async def _connect(connection: AIOKafkaConnection, where: str) -> None:
    try:
        await connection.connect()
    except OSError:
        # That a certificate is wrong is a ValueError, too.
        raise
    except (AssertionError, LookupError, ValueError) as error:
        # What aiokafka's SASL exchange says to answers that no honest broker gives.
        raise AuthenticationFailed(
            f"{where}: the SASL exchange failed: {error}; is this the right broker?",
            name=type(error).__name__,
        ) from error


def _leader(leaders: Mapping[int, Address | None], topic: str, partition: int) -> Address:
    where = f"topic '{topic}' partition {partition}"
    if partition not in leaders:
        raise from_code(
            _UNKNOWN_TOPIC_OR_PARTITION,
            f"{where} does not exist; the topic has {len(leaders)} partitions",
        )
    leader = leaders[partition]
    if leader is None:
        raise BrokerUnavailable(f"{where} has no leader now", retriable=True)
    return leader


async def committed_offsets(
    coordinator: AIOKafkaConnection, group_id: str, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Ask a group's coordinator what is committed; partitions without anything are left out.

    Raises:
        KafkaError: The coordinator refuses.
    """
    wanted = list(by_topic(partitions).items())
    answer = await coordinator.send(OffsetFetchRequest(group_id, wanted))
    codes = [answer.error_code, *(entry[3] for _, entries in answer.topics for entry in entries)]
    for code in filter(None, codes):
        raise from_code(code, f"group '{group_id}': committed offsets")
    return {
        # confluent-kafka commits the NUL character that ends a text in C, too.
        TopicPartition(topic, number): OffsetAndMetadata(offset, (metadata or "").rstrip("\0"))
        for topic, entries in answer.topics
        for number, offset, metadata, _ in entries
        if offset >= 0
    }


async def leave_group(brokers: Brokers, group_id: str, member_id: str) -> None:
    """End a membership, also a static one, which clients only let expire.

    Raises:
        KafkaError: The coordinator refuses, for example because the member was replaced, or does
            not answer.
    """
    address = await brokers.coordinator(group_id)
    async with brokers.connected(address) as coordinator:
        code = (await coordinator.send(LeaveGroupRequest(group_id, member_id))).error_code
    if code:
        raise from_code(code, f"group '{group_id}': leaving")


async def committed_topics(
    coordinator: AIOKafkaConnection, group_id: str
) -> dict[str, dict[int, int]]:
    """Ask a group's coordinator for all its committed offsets, by topic.

    Raises:
        KafkaError: The coordinator refuses.
    """
    answer = await coordinator.send(OffsetFetchRequest(group_id, None))
    found: dict[str, dict[int, int]] = {}
    codes = [answer.error_code]
    for topic, entries in sorted(answer.topics):
        found[topic] = {partition: offset for partition, offset, *_ in entries if offset >= 0}
        codes += [code for *_, code in entries]
    for code in filter(None, codes):
        raise from_code(code, f"group '{group_id}': committed offsets")
    return {topic: offsets for topic, offsets in found.items() if offsets}


async def _list_offsets(
    connection: AIOKafkaConnection,
    topic: str,
    timestamps: Mapping[int, int],
    isolation_level: int,
) -> dict[int, int]:
    wanted = [(topic, list(timestamps.items()))]
    answer = await connection.send(OffsetRequest(_CLIENT, isolation_level, wanted))
    offsets = {}
    for partition, code, _, offset in answer.topics[0][1]:
        if code:
            raise from_code(code, f"topic '{topic}' partition {partition}: offsets")
        offsets[partition] = offset
    return offsets
