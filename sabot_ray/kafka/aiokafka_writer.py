"""`RecordWriter` on aiokafka, for where confluent-kafka cannot be imported."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as AiokafkaError

from sabot_ray.errors import ConfigError, KafkaError
from sabot_ray.kafka.aiokafka_brokers import security_arguments
from sabot_ray.kafka.aiokafka_errors import kafka_error
from sabot_ray.kafka.aiokafka_loop import EventLoopThread
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.metadata import METADATA_TIMEOUT_S
from sabot_ray.kafka.record_writer import PRODUCER_SETTINGS, Deliveries

_DEFAULTS: Final = {"enable_idempotence": True, "compression_type": "lz4", "linger_ms": 5}
#: Records that go to the event loop together: a hand-over costs more than a record.
_HANDED_OVER: Final = 500
#: Records that may be on their way before no more are taken.
_OUTSTANDING: Final = 20_000

_Record = tuple[bytes | None, bytes | None]


class AiokafkaWriter:
    """See `RecordWriter`."""

    def __init__(self, config: KafkaConfig, topic: str, settings: Mapping[str, str]) -> None:
        # Before the thread starts: it may be refused.
        security = security_arguments(config)
        self._topic = topic
        self._deliveries = Deliveries()
        self._pending: list[_Record] = []
        self._loop = EventLoopThread()
        self._producer: AIOKafkaProducer | None = None
        known = inspect.signature(AIOKafkaProducer).parameters
        wanted: dict[str, Any] = {
            name: value
            for name, value in {**config.aiokafka_settings(), **security}.items()
            if name in known
        }
        wanted |= _DEFAULTS
        for name, value in settings.items():
            if theirs := PRODUCER_SETTINGS[name]:
                wanted[theirs] = int(value) if value.isdecimal() else value
        if wanted["compression_type"] == "none":
            wanted["compression_type"] = None
        try:
            self._producer = self._loop.run(self._start(wanted), timeout_s=METADATA_TIMEOUT_S)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"aiokafka refuses the settings: {error}") from None
        except AiokafkaError as error:
            raise kafka_error(error, f"brokers {config.bootstrap_servers}") from error
        finally:
            if self._producer is None:
                self._loop.close()

    async def _start(self, settings: dict[str, Any]) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**settings)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    @property
    def deliveries(self) -> Deliveries:
        """See `RecordWriter.deliveries`."""
        return self._deliveries

    def write(self, key: bytes | None, value: bytes | None) -> bool:
        """See `RecordWriter.write`."""
        if self._outstanding() >= _OUTSTANDING:
            return False
        self._deliveries.written += 1
        self._pending.append((key, value))
        if len(self._pending) >= _HANDED_OVER:
            self._hand_over()
        return True

    def _outstanding(self) -> int:
        done = self._deliveries.records + self._deliveries.failed
        return self._deliveries.written - done

    def _hand_over(self) -> None:
        records, self._pending = self._pending, []
        if records:
            try:
                self._loop.run(self._send(records))
            except AiokafkaError as error:
                raise self._error(error) from error

    async def _send(self, records: Sequence[_Record]) -> None:
        assert self._producer is not None
        for key, value in records:
            size = len(key or b"") + len(value or b"")
            future = await self._producer.send(self._topic, value, key)
            future.add_done_callback(lambda done, size=size: self._on_delivery(done, size))

    def _on_delivery(self, done: asyncio.Future[Any], size: int) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled():
            self._deliveries.fail(f"topic '{self._topic}': given up")
        elif isinstance(error, Exception):
            self._deliveries.fail(str(self._error(error)))
        else:
            found = done.result()
            self._deliveries.delivered(found.partition, found.offset, size)

    def _error(self, error: Exception) -> KafkaError:
        return kafka_error(error, f"topic '{self._topic}'")

    def poll(self, timeout_s: float) -> None:
        """See `RecordWriter.poll`."""
        self._hand_over()
        time.sleep(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """See `RecordWriter.flush`."""
        self._hand_over()
        deadline = time.monotonic() + timeout_s
        while self._outstanding() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self._outstanding()

    def close(self) -> None:
        """See `RecordWriter.close`."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self._loop.run(producer.stop(), timeout_s=METADATA_TIMEOUT_S)
        self._loop.close()
