"""The native sink: rows become records in C++, and librdkafka writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sabot_ray.codecs.codec import Codec, Rejected
from sabot_ray.codecs.dictionaries import plain_schema
from sabot_ray.errors import KafkaError
from sabot_ray.kafka.librdkafka import LibrdkafkaConnection, load_native
from sabot_ray.kafka.outgoing import Outgoing
from sabot_ray.kafka.sink import CLOSE_TIMEOUT_S, SLICE_S, Delivery, KafkaSink
from sabot_ray.types import FailedRecord, WrittenRecords

#: librdkafka's default of ``message.max.bytes``.
_LARGEST_RECORD: Final = 1_000_000


class LibrdkafkaSink(KafkaSink):
    """Writes through librdkafka; see `PartitionSink` and `KafkaSink`."""

    def _load(self) -> None:
        self._native = load_native()

    def _connect(self) -> None:
        self._producer = self._native.Producer(self._settings())
        self._connection = LibrdkafkaConnection(self._spec.config, self._producer)

    def _settings(self) -> dict[str, str]:
        """Return librdkafka's settings."""
        settings = {
            **self._spec.config.librdkafka_settings("producer"),
            "compression.type": self._spec.compression,
            # How long a topic that the brokers do not know counts as just created.
            "topic.metadata.propagation.max.ms": "5000",
        }
        # Else a record that may be written would wait for room for ever.
        largest = int(settings.get("message.max.bytes", _LARGEST_RECORD))
        room = max(int(settings["queue.buffering.max.kbytes"]), largest // 1024 + 1)
        settings["queue.buffering.max.kbytes"] = str(room)
        partitioner = self._spec.layout.partitioner
        # A function leaves nothing to it but dead letters.
        settings["partitioner"] = partitioner if isinstance(partitioner, str) else "murmur2_random"
        return settings

    def _make_encoder(self, codec: Codec) -> Any:
        return self._native.Encoder(codec)

    def _encode(self, outgoing: Outgoing, encoder: Any) -> Delivery:
        values = outgoing.values
        sender = self._native.RecordSender(
            self._producer,
            encoder,
            self._topic_name,
            values.cast(plain_schema(values.schema)),
            outgoing.keys,
            outgoing.headers,
            outgoing.timestamps,
            outgoing.partitions,
            outgoing.topics,
        )
        return _Delivery(sender)

    def _hand_over(self, delivery: Delivery) -> None:
        assert isinstance(delivery, _Delivery)
        try:
            while True:
                self._tend()
                error: KafkaError | None = self._producer.fatal_error()
                if error is not None:
                    raise error
                if delivery.sender.hand_over(SLICE_S):
                    return
                self._check_open()
        finally:
            delivery.sender.stop()

    def _flush(self, timeout_s: float) -> bool:
        is_done: bool = self._producer.flush(timeout_s)
        return is_done

    def _tend(self) -> None:
        super()._tend()
        self._connection.forward_log()
        self._connection.renew_token()

    def _last_words(self) -> str:
        errors: list[KafkaError] = self._producer.client_errors()
        return f"the client's last error: {errors[-1].message}" if errors else ""

    def _disconnect(self) -> None:
        self._producer.close(CLOSE_TIMEOUT_S)


class _Delivery:
    """See `Delivery`."""

    def __init__(self, sender: Any) -> None:
        self.sender = sender
        self.rejected: Sequence[Rejected] = [Rejected(*row) for row in sender.rejected()]

    def outstanding(self) -> int:
        """See `Delivery.outstanding`."""
        count: int = self.sender.outstanding()
        return count

    def is_settled(self) -> bool:
        """See `Delivery.is_settled`."""
        return not self.outstanding()

    def wait(self, timeout_s: float) -> bool:
        """See `Delivery.wait`."""
        is_settled: bool = self.sender.wait(timeout_s)
        return is_settled

    def failures(self) -> list[FailedRecord]:
        """See `Delivery.failures`."""
        failures: list[FailedRecord] = self.sender.failures()
        return failures

    def written(self) -> list[WrittenRecords]:
        """See `Delivery.written`."""
        written: list[WrittenRecords] = self.sender.written()
        return written
