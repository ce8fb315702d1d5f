# distutils: language = c++
# cython: language_level=3, embedsignature=True
"""The border between the C++ core and Python: with `sinks.pxi` the only file that knows both."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from cython.operator cimport dereference as deref
from libc.stdint cimport int32_t, int64_t, uint64_t, uintptr_t
from libcpp cimport bool as cbool
from libcpp.map cimport map as cmap
from libcpp.memory cimport make_shared, shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.utility cimport move, pair
from libcpp.vector cimport vector

from time import monotonic

import pyarrow as pa

from sabot_ray.codecs.codec import Codec, NewField
from sabot_ray.codecs.dictionaries import encode_batch, plain_schema
from sabot_ray.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    BrokerUnavailable,
    ConfigError,
    DecodeError,
    KafkaError,
    from_librdkafka,
)
from sabot_ray.types import (
    FailedRecord,
    SourceStats,
    TransactionFailure,
    Watermarks,
    WrittenRecords,
)


cdef extern from "arrow/c_data.h" nogil:
    struct ArrowSchema:
        pass
    struct ArrowArray:
        pass


cdef extern from "status.h" namespace "sabot" nogil:
    enum class StatusCode "sabot::StatusCode":
        kOk
        kInvalid
        kUnavailable
        kKafka
        kBrokerUnavailable
        kDecode
        kOutOfMemory
    cppclass Status:
        cbool ok()
        StatusCode code()
        const string& message()
        int kafka_code()
        int64_t offset()
        const string& field()
        const string& reason()
        cbool is_new_field()
    cppclass Result[T]:
        cbool ok()
        Status status()
        T& value()
    struct DecodeFailure:
        string field
        string reason
        cbool is_new_field


cdef extern from "<chrono>" namespace "std::chrono" nogil:
    cppclass milliseconds:
        milliseconds(int64_t)
    cppclass microseconds:
        microseconds(int64_t)


cdef extern from "arrow/buffer_pool.h" namespace "sabot" nogil:
    cppclass BufferPool:
        @staticmethod
        shared_ptr[BufferPool] Make(size_t)


cdef extern from "kafka/librdkafka_api.h" nogil:
    struct rd_kafka_err_desc_t:
        int code
        const char* name


cdef extern from "kafka/librdkafka_api.h" namespace "sabot" nogil:
    cppclass CppLibrdkafkaApi "sabot::LibrdkafkaApi":
        @staticmethod
        Result[shared_ptr[const CppLibrdkafkaApi]] Load(const string&)
        const char* (*rd_kafka_version_str)()
        const char* (*rd_kafka_err2name)(int)
        void (*rd_kafka_get_err_descs)(const rd_kafka_err_desc_t**, size_t*)


cdef extern from "kafka/client.h" namespace "sabot" nogil:
    struct ClientError:
        int code
        string reason
    struct LogLine:
        int level
        string text
    cppclass CppClient "sabot::Client":
        Status SetToken(const string&, milliseconds)
        vector[ClientError] Errors()
        vector[ClientError] TakeErrors()
        vector[LogLine] TakeLog()
        string TakeStatistics()


cdef extern from "kafka/consumer.h" namespace "sabot" nogil:
    struct LogBounds:
        int64_t low
        int64_t high
        int64_t last_stable
    cppclass CppConsumer "sabot::Consumer":
        @staticmethod
        Result[shared_ptr[CppConsumer]] Make(
            const shared_ptr[const CppLibrdkafkaApi]&, const cmap[string, string]&)
        Result[LogBounds] QueryBounds(const string&, int32_t, milliseconds)
        uint64_t news_count()
        void WaitForNews(uint64_t, milliseconds)
        void Wake()


cdef extern from "<string_view>" namespace "std" nogil:
    cppclass string_view:
        string_view()
        string_view(const char*, size_t)


cdef extern from "codec/codec.h" namespace "sabot" nogil:
    cppclass CppCodec "sabot::Codec":
        pass
    Result[CppCodec] ImportCodec(string_view, const ArrowSchema&, string_view)


cdef extern from "codec/json_tokens.h" namespace "sabot" nogil:
    const char* SimdjsonVersion "sabot::JsonTokens::SimdjsonVersion"()
    string SimdjsonImplementation "sabot::JsonTokens::SimdjsonImplementation"()


cdef extern from "<optional>" namespace "std" nogil:
    cppclass optional[T]:
        optional()
        optional(T)
        cbool has_value()
        T& value()


cdef extern from "batch_builder.h" namespace "sabot" nogil:
    cppclass Record:
        Record()
        int64_t offset
        optional[string_view] value
    cppclass BatchOptions:
        BatchOptions()
        string topic
        int32_t partition
        vector[string] columns
        CppCodec value_codec
        CppCodec key_codec
    cppclass BatchBuilder:
        @staticmethod
        Result[unique_ptr[BatchBuilder]] Make(BatchOptions, const shared_ptr[BufferPool]&)
        optional[DecodeFailure] Append(const Record&) except +
        void Export(ArrowArray*) except +
        vector[pair[string, uint64_t]] UnknownFieldCounts()


cdef extern from "codec/encoder.h" namespace "sabot" nogil:
    struct EncodeFailure:
        string field
        string reason
    cppclass CppEncoder "sabot::Encoder":
        void Begin(const ArrowArray&)
        optional[EncodeFailure] Encode(int64_t, string*) except +
    unique_ptr[CppEncoder] MakeEncoder(const CppCodec&) except +


cdef extern from "decode_threads.h" namespace "sabot" nogil:
    cppclass CppDecodeThreads "sabot::DecodeThreads":
        @staticmethod
        Result[shared_ptr[CppDecodeThreads]] Start(size_t)


cdef extern from "record_decoder.h" namespace "sabot" nogil:
    struct RejectedRecord:
        int64_t offset
        DecodeFailure failure


cdef extern from "partition_pipeline.h" namespace "sabot" nogil:
    cppclass PartitionOptions:
        PartitionOptions()
        string topic
        int32_t partition
        int64_t start_offset
        int64_t end_offset
        int32_t leader_epoch
        vector[string] columns
        CppCodec value_codec
        CppCodec key_codec
        cbool skip_tombstones
        cbool skip_decode_errors
        cbool report_decode_errors
        int64_t max_batch_bytes
        microseconds linger
        cbool await_backlog
    cppclass PartitionStats:
        int64_t records
        int64_t bytes
        int64_t tombstones
        int64_t decode_errors
        int64_t last_error_offset
        DecodeFailure last_error
        vector[pair[string, uint64_t]] unknown_fields
    cppclass CppPartitionPipeline "sabot::PartitionPipeline":
        @staticmethod
        Result[unique_ptr[CppPartitionPipeline]] Open(
            shared_ptr[CppConsumer], PartitionOptions, shared_ptr[CppDecodeThreads])
        Status Poll(int64_t, milliseconds, ArrowArray*)
        vector[RejectedRecord] TakeRejected()
        int64_t position()
        int32_t leader_epoch()
        cbool has_news()
        int64_t Backlog()
        cbool done()
        Status Seek(int64_t)
        PartitionStats Stats()
        void Close()


# --- errors --------------------------------------------------------------------------------------


cdef str _text(const string& text):
    # Whatever a broker or a document put into it, the error must not be lost over it.
    return text.data()[:text.size()].decode("utf-8", "replace")


cdef object _error(const Status& status, str topic, int partition):
    """Build the Python error of a status that is not ok; nothing else does."""
    cdef StatusCode code = status.code()
    message = _text(status.message())
    if code == StatusCode.kDecode:
        error_class = NewField if status.is_new_field() else DecodeError
        return error_class.at(
            topic, partition, status.offset(), _text(status.field()), _text(status.reason()))
    if code == StatusCode.kKafka:
        return from_librdkafka(
            status.kafka_code(), error_name(status.kafka_code()), message)
    if code == StatusCode.kBrokerUnavailable:
        # The code is that of the connections' last error, which may name a deeper cause.
        name = error_name(status.kafka_code())
        error = from_librdkafka(status.kafka_code(), name, message)
        if isinstance(error, AuthenticationFailed):
            return error
        return BrokerUnavailable(message, status.kafka_code(), name, retriable=True)
    if code == StatusCode.kUnavailable:
        return BackendUnavailable(message)
    if code == StatusCode.kOutOfMemory:
        return MemoryError(message)
    return ConfigError(message)


# --- librdkafka ----------------------------------------------------------------------------------


cdef shared_ptr[const CppLibrdkafkaApi] _api


def load_librdkafka(path: str) -> None:
    """Take librdkafka from a shared object; again is no harm.

    Args:
        path: confluent_kafka's extension module.

    Raises:
        BackendUnavailable: It cannot be opened, or is too old.
    """
    global _api
    if _api:
        return
    loaded = CppLibrdkafkaApi.Load(path.encode())
    if not loaded.ok():
        raise _error(loaded.status(), "", -1)
    _api = loaded.value()


def error_name(code: int) -> str:
    """Return the name of one of librdkafka's error codes, for example ``"_TRANSPORT"``."""
    return deref(_api).rd_kafka_err2name(code).decode() if _api else f"ERROR_{code}"


def error_codes() -> dict[str, int]:
    """Return librdkafka's error codes by name."""
    cdef const rd_kafka_err_desc_t* descriptions = NULL
    cdef size_t count = 0
    deref(_api).rd_kafka_get_err_descs(&descriptions, &count)
    # The table has holes where no code is.
    return {
        descriptions[i].name.decode(): descriptions[i].code
        for i in range(count)
        if descriptions[i].name != NULL
    }


def versions() -> dict[str, str]:
    """Return the versions of the libraries, and the instruction set that simdjson chose."""
    return {
        "librdkafka": deref(_api).rd_kafka_version_str().decode() if _api else "",
        "simdjson": SimdjsonVersion().decode(),
        "simdjson_implementation": SimdjsonImplementation().decode(),
    }


# --- batches -------------------------------------------------------------------------------------


cdef object _import_batch(ArrowArray* array, object plain, object schema):
    """Take over a batch; ``plain`` is the `plain_schema` of ``schema``."""
    # Not by the capsules: importing the schema with it would rename the fields of maps.
    batch = pa.RecordBatch._import_from_c(<uintptr_t>array, plain)
    return batch if plain is schema else encode_batch(batch, schema)


cdef const ArrowSchema* _schema_pointer(object capsule) except NULL:
    return <const ArrowSchema*>PyCapsule_GetPointer(capsule, "arrow_schema")


cdef const ArrowArray* _array_pointer(object capsule) except NULL:
    return <const ArrowArray*>PyCapsule_GetPointer(capsule, "arrow_array")


cdef CppCodec _codec(codec) except *:
    """Return a `sabot_ray.codecs.codec.Codec` as the core knows it."""
    capsule = codec.columns.__arrow_c_schema__()
    cdef string name = codec.name.encode()
    cdef string unknown_fields = codec.unknown_fields.encode()
    imported = ImportCodec(
        string_view(name.data(), name.size()),
        deref(_schema_pointer(capsule)),
        string_view(unknown_fields.data(), unknown_fields.size()),
    )
    if not imported.ok():
        raise _error(imported.status(), "", -1)
    return imported.value()


cdef vector[string] _names(columns):
    cdef vector[string] names
    for column in columns:
        names.push_back(<string>column.encode())
    return names


cdef dict _counts(vector[pair[string, uint64_t]] counts):
    return {_text(entry.first): entry.second for entry in counts}


# --- clients -------------------------------------------------------------------------------------


cdef list _client_errors(vector[ClientError] errors):
    return [
        from_librdkafka(error.code, error_name(error.code), _text(error.reason))
        for error in errors
    ]


cdef cmap[string, string] _settings(settings) except *:
    if not _api:
        raise BackendUnavailable("librdkafka is not loaded; call load_librdkafka first")
    cdef cmap[string, string] given
    for name, value in settings.items():
        given[<string>name.encode()] = <string>value.encode()
    return given


cdef class Client:
    """What consumers and producers share: what the client says of its connections."""

    # The derived class owns it; null once it is closed.
    cdef CppClient* _client

    def set_token(self, token: str, expires_at_s: float) -> None:
        """Set what the brokers are shown where the mechanism is OAUTHBEARER."""
        cdef string text = token.encode()
        cdef int64_t expires_at_ms = int(expires_at_s * 1000)
        if self._client == NULL:
            raise KafkaError("the client is closed")
        cdef Status status = self._client.SetToken(text, milliseconds(expires_at_ms))
        if not status.ok():
            raise _error(status, "", -1)

    def client_errors(self) -> list[KafkaError]:
        """Return the newest errors of the connections, oldest first."""
        return _client_errors(self._client.Errors()) if self._client != NULL else []

    def take_errors(self) -> list[KafkaError]:
        """Return the errors of the connections that came since the last call, oldest first."""
        return _client_errors(self._client.TakeErrors()) if self._client != NULL else []

    def take_log(self) -> list[tuple[int, str]]:
        """Return the client's log since the last call: syslog's level, and the text."""
        if self._client == NULL:
            return []
        return [(line.level, _text(line.text)) for line in self._client.TakeLog()]

    def take_statistics(self) -> bytes:
        """Return librdkafka's newest statistics as JSON; empty if none came since the last call."""
        return self._client.TakeStatistics() if self._client != NULL else b""


# --- sources -------------------------------------------------------------------------------------


cdef class Consumer(Client):
    """A connection to the brokers; opens partitions, which may outlive it.

    Args:
        settings: librdkafka's settings.

    Raises:
        ConfigError: librdkafka refuses them.
    """

    cdef shared_ptr[CppConsumer] _consumer

    def __init__(self, settings: dict[str, str]) -> None:
        cdef cmap[string, string] given = _settings(settings)
        cdef Result[shared_ptr[CppConsumer]] made
        with nogil:
            made = CppConsumer.Make(_api, given)
        if not made.ok():
            raise _error(made.status(), "", -1)
        self._consumer = made.value()
        self._client = <CppClient*>self._consumer.get()

    def __dealloc__(self):
        with nogil:
            self._consumer.reset()

    cdef shared_ptr[CppConsumer] _opened(self) except *:
        if not self._consumer:
            raise KafkaError("the client is closed")
        return self._consumer

    def close(self) -> None:
        """Free the client once its partitions are closed. Idempotent."""
        cdef shared_ptr[CppConsumer] consumer = move(self._consumer)
        self._client = NULL
        with nogil:
            consumer.reset()

    def watermarks(self, topic: str, partition: int, timeout_s: float) -> Watermarks:
        """Ask the broker for the bounds of a partition's log."""
        cdef string name = topic.encode()
        cdef int32_t number = partition
        cdef int64_t timeout_ms = int(timeout_s * 1000)
        cdef shared_ptr[CppConsumer] consumer = self._opened()
        cdef Result[LogBounds] asked
        with nogil:
            asked = deref(consumer).QueryBounds(name, number, milliseconds(timeout_ms))
        if not asked.ok():
            raise _error(asked.status(), topic, partition)
        bounds = asked.value()
        return Watermarks(bounds.low, bounds.high, bounds.last_stable)

    def news_count(self) -> int:
        """Return how often any partition's queue has told news."""
        return deref(self._consumer).news_count() if self._consumer else 0

    def wait_for_news(self, seen: int, timeout_s: float) -> None:
        """Wait until `news_count` differs from ``seen``, or the time is over."""
        cdef uint64_t known = seen
        cdef int64_t timeout_ms = max(0, int(timeout_s * 1000))
        cdef shared_ptr[CppConsumer] consumer = self._consumer
        if not consumer:
            return
        with nogil:
            deref(consumer).WaitForNews(known, milliseconds(timeout_ms))

    def wake(self) -> None:
        """End `wait_for_news`."""
        if self._consumer:
            deref(self._consumer).Wake()


cdef class DecodeThreads:
    """Threads that partitions of a client share to decode; they end with the last that has them.

    Args:
        count: How many decode, the thread that polls among them.

    Raises:
        ConfigError: The system does not allow so many.
    """

    cdef shared_ptr[CppDecodeThreads] _threads

    def __init__(self, count: int) -> None:
        cdef size_t threads = count
        cdef Result[shared_ptr[CppDecodeThreads]] started
        with nogil:
            started = CppDecodeThreads.Start(threads)
        if not started.ok():
            raise _error(started.status(), "", -1)
        self._threads = started.value()

    def __dealloc__(self):
        with nogil:
            self._threads.reset()


cdef class PartitionPipeline:
    """Reads one partition; see `sabot_ray.kafka.source.PartitionSource` for what the methods mean.

    Args:
        consumer: The connection.
        topic: The topic.
        partition: The partition.
        start_offset: The first offset.
        end_offset: The end of the range, or None.
        leader_epoch: Leader epoch of the start, or -1.
        value_codec: How values become columns.
        key_codec: How keys become a column.
        columns: The columns to build: value and metadata columns, in order.
        schema: The schema of these columns.
        skip_tombstones: Whether tombstones are dropped.
        skip_decode_errors: Whether records that do not decode are dropped.
        report_decode_errors: Whether `take_rejected` tells of these.
        max_batch_bytes: A batch is closed once its keys and values reach this many bytes.
        linger_s: How long to wait for more before a batch that is not full is handed over.
        await_backlog: Whether to wait a little for a full batch far behind the log's end.
        decode_threads: Who decodes; None: the thread that polls, alone.
    """

    cdef unique_ptr[CppPartitionPipeline] _pipeline
    cdef readonly object schema
    cdef object _plain_schema
    cdef str _topic
    cdef int _partition

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        partition: int,
        start_offset: int,
        end_offset: int | None,
        leader_epoch: int,
        value_codec: Codec,
        key_codec: Codec,
        columns,
        schema: pa.Schema,
        *,
        skip_tombstones: bool,
        skip_decode_errors: bool,
        report_decode_errors: bool = False,
        max_batch_bytes: int,
        linger_s: float,
        await_backlog: bool,
        decode_threads: DecodeThreads | None = None,
    ) -> None:
        self.schema = schema
        self._plain_schema = plain_schema(schema)
        self._topic = topic
        self._partition = partition
        cdef int64_t linger_us = int(linger_s * 1e6)
        cdef PartitionOptions options
        options.topic = <string>topic.encode()
        options.partition = partition
        options.start_offset = start_offset
        options.end_offset = -1 if end_offset is None else end_offset
        options.leader_epoch = leader_epoch
        options.columns = _names(columns)
        options.value_codec = _codec(value_codec)
        options.key_codec = _codec(key_codec)
        options.skip_tombstones = skip_tombstones
        options.skip_decode_errors = skip_decode_errors
        options.report_decode_errors = report_decode_errors
        options.max_batch_bytes = max_batch_bytes
        options.linger = microseconds(linger_us)
        options.await_backlog = await_backlog
        cdef shared_ptr[CppConsumer] client = consumer._opened()
        cdef shared_ptr[CppDecodeThreads] threads
        if decode_threads is not None:
            threads = (<DecodeThreads>decode_threads)._threads
        cdef Result[unique_ptr[CppPartitionPipeline]] opened
        with nogil:
            opened = CppPartitionPipeline.Open(client, move(options), move(threads))
        if not opened.ok():
            raise _error(opened.status(), topic, partition)
        self._pipeline = move(opened.value())

    def __dealloc__(self):
        with nogil:
            self._pipeline.reset()

    def poll(self, max_rows: int, timeout_s: float) -> pa.RecordBatch:
        """Return the next records."""
        cdef int64_t rows = max_rows
        cdef int64_t left_ms = max(0, int(timeout_s * 1000))
        cdef int64_t slice_ms
        cdef int64_t position = deref(self._pipeline).position()
        cdef Status status
        cdef ArrowArray array
        # In slices, so that Ctrl-C is heard.
        while True:
            slice_ms = min(left_ms, 500)
            left_ms -= slice_ms
            with nogil:
                status = deref(self._pipeline).Poll(rows, milliseconds(slice_ms), &array)
            if not status.ok():
                raise _error(status, self._topic, self._partition)
            batch = _import_batch(&array, self._plain_schema, self.schema)
            if (
                batch.num_rows
                or left_ms == 0
                or deref(self._pipeline).position() != position
                or deref(self._pipeline).done()
            ):
                return batch
            PyErr_CheckSignals()

    def take_rejected(self) -> list[DecodeError]:
        """Return the records that were dropped since the last call."""
        cdef vector[RejectedRecord] rejected
        with nogil:
            rejected = deref(self._pipeline).TakeRejected()
        return [
            DecodeError.at(
                self._topic,
                self._partition,
                record.offset,
                _text(record.failure.field),
                _text(record.failure.reason),
            )
            for record in rejected
        ]

    def position(self) -> int:
        """Return the next offset to fetch."""
        return deref(self._pipeline).position()

    def leader_epoch(self) -> int:
        """Return the leader epoch of the record before the position; -1: not known."""
        return deref(self._pipeline).leader_epoch()

    def has_news(self) -> bool:
        """Tell whether a poll may have something at once."""
        return deref(self._pipeline).has_news()

    def backlog(self) -> int:
        """Return how many offsets are known to lie ahead."""
        cdef int64_t offsets
        with nogil:
            offsets = deref(self._pipeline).Backlog()
        return offsets

    def done(self) -> bool:
        """Tell whether nothing more comes: the end is reached, or the pipeline closed."""
        return deref(self._pipeline).done()

    def seek(self, offset: int) -> None:
        """Fetch from ``offset`` next."""
        cdef int64_t to = offset
        cdef Status status
        with nogil:
            status = deref(self._pipeline).Seek(to)
        if not status.ok():
            raise _error(status, self._topic, self._partition)

    def stats(self) -> SourceStats:
        """Return the counters."""
        cdef PartitionStats stats = deref(self._pipeline).Stats()
        last_error = ""
        if stats.decode_errors:
            last_error = DecodeError.at(
                self._topic,
                self._partition,
                stats.last_error_offset,
                _text(stats.last_error.field),
                _text(stats.last_error.reason),
            ).message
        return SourceStats(
            records=stats.records,
            bytes=stats.bytes,
            decode_errors=stats.decode_errors,
            last_decode_error=last_error,
            unknown_fields=_counts(stats.unknown_fields),
            tombstones=stats.tombstones,
        )

    def close(self) -> None:
        """Stop fetching; a running poll returns. Idempotent."""
        with nogil:
            deref(self._pipeline).Close()


include "sinks.pxi"


# --- decoding without Kafka ----------------------------------------------------------------------


def decode(
    values,
    codec: Codec,
    columns,
    schema: pa.Schema,
    *,
    tombstones: str = "keep",
    on_decode_error: str = "fail",
):
    """Decode values as a source does; for holding the decoders against each other.

    Args:
        values: Bytes, or None for a tombstone.
        codec: How they become columns.
        columns: Names of the columns to build, in order.
        schema: The schema of these columns.
        tombstones: ``"keep"`` or ``"skip"``.
        on_decode_error: ``"fail"``: decoding stops at the first value that does not decode;
            ``"skip"``: such values are left out, but for one that the schema is to learn from.

    Returns:
        The batch; index, field and reason of the values that did not decode; and in how many
        objects each unknown field was met, by path.
    """
    cdef BatchOptions options
    options.columns = _names(columns)
    options.value_codec = _codec(codec)
    made = BatchBuilder.Make(move(options), BufferPool.Make(64 << 20))
    if not made.ok():
        raise _error(made.status(), "", -1)
    cdef unique_ptr[BatchBuilder] batch = move(made.value())
    cdef Record record
    cdef optional[DecodeFailure] failure
    rejected = []
    for index, value in enumerate(values):
        if value is None and tombstones == "skip":
            continue
        record = Record()
        record.offset = index
        if value is not None:
            record.value = optional[string_view](
                string_view(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)))
        failure = deref(batch).Append(record)
        if failure.has_value():
            rejected.append(
                (index, _text(failure.value().field), _text(failure.value().reason)))
            if on_decode_error == "fail" or failure.value().is_new_field:
                break
    cdef ArrowArray array
    deref(batch).Export(&array)
    rows = _import_batch(&array, plain_schema(schema), schema)
    return rows, rejected, _counts(deref(batch).UnknownFieldCounts())


# --- encoding without Kafka ----------------------------------------------------------------------


def encode(batch: pa.RecordBatch, codec: Codec):
    """Encode rows as a sink does; for holding the encoders against each other.

    Args:
        batch: The rows, with the codec's columns.
        codec: How they become values.

    Returns:
        The values, None for a row that cannot be encoded; and index, field and reason of each such
        row.
    """
    plain = batch.cast(plain_schema(codec.columns))
    _, capsule = plain.__arrow_c_array__()
    cdef const ArrowArray* array = _array_pointer(capsule)
    cdef unique_ptr[CppEncoder] encoder = MakeEncoder(_codec(codec))
    deref(encoder).Begin(deref(array))
    cdef string value
    cdef int64_t row
    cdef optional[EncodeFailure] failure
    values = []
    rejected = []
    for row in range(batch.num_rows):
        value.clear()
        failure = deref(encoder).Encode(row, &value)
        if failure.has_value():
            values.append(None)
            rejected.append(
                (row, _text(failure.value().field), _text(failure.value().reason)))
        else:
            values.append(<bytes>value)
    return values, rejected
