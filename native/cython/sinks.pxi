# Writing records; a part of `_native.pyx`.


cdef extern from "kafka/producer.h" namespace "sabot" nogil:
    struct CppFailedRecord "sabot::FailedRecord":
        int64_t row
        string topic
        int32_t partition
        int code
        string reason
        cbool was_sent
    struct CppWrittenRecords "sabot::WrittenRecords":
        string topic
        int32_t partition
        int64_t records
        int64_t bytes
        int64_t first_offset
        int64_t last_offset
    struct TransactionError:
        int code
        string reason
        cbool is_retriable
        cbool requires_abort
    struct GroupOffset:
        string topic
        int32_t partition
        int64_t next_offset
        string metadata
        int32_t leader_epoch
    cppclass CppDelivery "sabot::Delivery":
        int64_t outstanding()
        cbool Wait(milliseconds) except +
        vector[CppFailedRecord] failures() except +
        vector[CppWrittenRecords] written() except +
    cppclass CppProducer "sabot::Producer":
        @staticmethod
        Result[shared_ptr[CppProducer]] Make(
            const shared_ptr[const CppLibrdkafkaApi]&, const cmap[string, string]&) except +
        cbool Flush(milliseconds) except +
        TransactionError InitTransactions(milliseconds) except +
        TransactionError BeginTransaction() except +
        TransactionError SendOffsets(
            const vector[GroupOffset]&, const string&, milliseconds) except +
        TransactionError EndTransaction(cbool, milliseconds) except +
        Status FatalError()
        void Close(milliseconds) except +


cdef extern from "kafka/value_pool.h" namespace "sabot" nogil:
    cppclass ValuePool:
        ValuePool(size_t) except +


cdef extern from "record_sender.h" namespace "sabot" nogil:
    struct RecordColumns:
        const ArrowArray* values
        const ArrowArray* keys
        const ArrowArray* headers
        const ArrowArray* timestamps
        const ArrowArray* partitions
        const ArrowArray* topics
    struct RejectedRow:
        int64_t row
        EncodeFailure failure
    cppclass CppRecordSender "sabot::RecordSender":
        CppRecordSender(
            const RecordColumns&, string, CppEncoder*, const shared_ptr[ValuePool]&) except +
        const vector[RejectedRow]& rejected()
        const shared_ptr[CppDelivery]& delivery()
        cbool HandOver(CppProducer*, milliseconds) except +
        void Stop(CppProducer*)


#: How long a call runs without a look at signals, in milliseconds.
cdef int64_t _SIGNAL_CHECK_MS = 200
#: How many bytes an encoder keeps for the values of the next batches.
cdef size_t _MOST_IDLE_VALUES = 16 << 20


cdef int64_t _slice_ms(deadline):
    return max(0, min(_SIGNAL_CHECK_MS, int((deadline - monotonic()) * 1000)))


cdef _transaction_failure(const TransactionError& error):
    if not error.code:
        return None
    name = error_name(error.code)
    return TransactionFailure(
        from_librdkafka(error.code, name, f"{_text(error.reason)} ({name})"),
        error.is_retriable,
        error.requires_abort,
    )


cdef object _error_of_writing(int code, const string& reason):
    return from_librdkafka(code, error_name(code), _text(reason), writes=True)


cdef class Encoder:
    """Turns rows into values as a codec says.

    Args:
        codec: The codec.

    Raises:
        ConfigError: The native backend does not know it.
    """

    cdef unique_ptr[CppEncoder] _encoder
    cdef shared_ptr[ValuePool] _pool

    def __init__(self, codec: Codec) -> None:
        self._encoder = MakeEncoder(_codec(codec))
        self._pool = make_shared[ValuePool](_MOST_IDLE_VALUES)


cdef class Producer(Client):
    """A connection to the brokers that writes.

    Args:
        settings: librdkafka's settings.

    Raises:
        ConfigError: librdkafka refuses them.
    """

    cdef shared_ptr[CppProducer] _producer

    def __init__(self, settings: dict[str, str]) -> None:
        cdef cmap[string, string] given = _settings(settings)
        cdef Result[shared_ptr[CppProducer]] made
        with nogil:
            made = CppProducer.Make(_api, given)
        if not made.ok():
            raise _error(made.status(), "", -1)
        self._producer = made.value()
        self._client = <CppClient*>self._producer.get()

    def __dealloc__(self):
        with nogil:
            self._producer.reset()

    cdef CppProducer* _opened(self) except NULL:
        if not self._producer:
            raise KafkaError("the client is closed")
        return self._producer.get()

    def flush(self, timeout_s: float) -> bool:
        """Send what waits for company; tell whether the fate of all is known in time."""
        cdef CppProducer* producer = self._opened()
        cdef int64_t slice_ms
        cdef cbool is_done = False
        deadline = monotonic() + timeout_s
        while True:
            slice_ms = _slice_ms(deadline)
            with nogil:
                is_done = producer.Flush(milliseconds(slice_ms))
            PyErr_CheckSignals()
            if is_done or monotonic() >= deadline:
                return is_done

    def fatal_error(self) -> KafkaError | None:
        """Return what stopped the client for good; None if nothing has."""
        cdef Status status = self._opened().FatalError()
        if status.ok():
            return None
        return _error_of_writing(status.kafka_code(), status.message())

    # Of a client with a transactional.id; see `kafka/transactional_sink.py`, which calls them again
    # as long as the error is retriable.

    def init_transactions(self, timeout_s: float) -> TransactionFailure | None:
        """End what a former client with this transactional id left open, and fence it."""
        cdef CppProducer* producer = self._opened()
        cdef int64_t timeout_ms = int(timeout_s * 1000)
        cdef TransactionError error
        with nogil:
            error = producer.InitTransactions(milliseconds(timeout_ms))
        return _transaction_failure(error)

    def begin_transaction(self) -> TransactionFailure | None:
        """Let the records that follow belong to a transaction."""
        return _transaction_failure(self._opened().BeginTransaction())

    def send_offsets(
        self,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        group_metadata: bytes,
        timeout_s: float,
    ) -> TransactionFailure | None:
        """Let the group's offsets belong to the transaction, too."""
        cdef CppProducer* producer = self._opened()
        cdef int64_t timeout_ms = int(timeout_s * 1000)
        cdef vector[GroupOffset] given
        cdef GroupOffset one
        cdef string member = group_metadata
        cdef TransactionError error
        for (topic, partition), offset in offsets.items():
            one.topic = topic.encode()
            one.partition = partition
            one.next_offset = offset.offset
            one.metadata = offset.metadata.encode()
            one.leader_epoch = offset.leader_epoch
            given.push_back(one)
        with nogil:
            error = producer.SendOffsets(given, member, milliseconds(timeout_ms))
        return _transaction_failure(error)

    def end_transaction(self, commit: bool, timeout_s: float) -> TransactionFailure | None:
        """Make all of the transaction visible, once it is written; or give all of it up."""
        cdef CppProducer* producer = self._opened()
        cdef int64_t timeout_ms = int(timeout_s * 1000)
        cdef cbool commits = commit
        cdef TransactionError error
        with nogil:
            error = producer.EndTransaction(commits, milliseconds(timeout_ms))
        return _transaction_failure(error)

    def close(self, timeout_s: float) -> None:
        """Give up what is outstanding, and free the client. Idempotent."""
        cdef shared_ptr[CppProducer] producer = move(self._producer)
        cdef int64_t timeout_ms = int(timeout_s * 1000)
        self._client = NULL
        if producer:
            with nogil:
                deref(producer).Close(milliseconds(timeout_ms))
                producer.reset()


cdef class RecordSender:
    """A batch on its way, encoded when it is made.

    Args:
        producer: Takes the records.
        encoder: Makes their values.
        topic: Where they go, where no column says so.
        values: The codec's columns (`plain_schema`). A row of nulls is a record without a value.
        keys: Binary; None: no record has a key.
        headers: Lists of names (string) and values (binary), in structs.
        timestamps: int64, milliseconds since the epoch; null is now.
        partitions: int32; null leaves it to the partitioner.
        topics: Strings.
    """

    cdef Producer _producer
    cdef unique_ptr[CppRecordSender] _sender
    cdef shared_ptr[CppDelivery] _delivery
    # What the arrays of `RecordColumns` belong to.
    cdef list _capsules

    def __init__(
        self,
        producer: Producer,
        Encoder encoder not None,
        topic: str,
        values: pa.RecordBatch,
        keys: pa.Array | None = None,
        headers: pa.Array | None = None,
        timestamps: pa.Array | None = None,
        partitions: pa.Array | None = None,
        topics: pa.Array | None = None,
    ) -> None:
        self._producer = producer
        self._capsules = []
        cdef RecordColumns columns
        columns.values = self._array(values)
        columns.keys = self._array(keys)
        columns.headers = self._array(headers)
        columns.timestamps = self._array(timestamps)
        columns.partitions = self._array(partitions)
        columns.topics = self._array(topics)
        cdef string name = topic.encode()
        cdef CppEncoder* with_encoder = encoder._encoder.get()
        with nogil:
            self._sender.reset(new CppRecordSender(columns, name, with_encoder, encoder._pool))
        self._delivery = deref(self._sender).delivery()

    cdef const ArrowArray* _array(self, data) except? NULL:
        if data is None:
            return NULL
        _, capsule = data.__arrow_c_array__()
        self._capsules.append(capsule)
        return _array_pointer(capsule)

    def rejected(self) -> list[tuple[int, str, str]]:
        """Return row, field and reason of the rows that cannot be encoded; they are not sent."""
        cdef vector[RejectedRow] rejected = deref(self._sender).rejected()
        return [
            (row.row, _text(row.failure.field), _text(row.failure.reason))
            for row in rejected
        ]

    def hand_over(self, timeout_s: float) -> bool:
        """Give the records to the client; tell whether there was room for all of them in time.

        To be called until it is so, or `stop` is.
        """
        cdef CppProducer* producer = self._producer._opened()
        cdef CppRecordSender* sender = self._sender.get()
        cdef int64_t slice_ms
        cdef cbool is_done = False
        deadline = monotonic() + timeout_s
        while True:
            slice_ms = _slice_ms(deadline)
            with nogil:
                is_done = sender.HandOver(producer, milliseconds(slice_ms))
            PyErr_CheckSignals()
            if is_done or monotonic() >= deadline:
                return is_done

    def stop(self) -> None:
        """Hand nothing more over."""
        if self._producer._producer:
            deref(self._sender).Stop(self._producer._producer.get())

    def outstanding(self) -> int:
        """Return of how many records the fate is not known; the batch counts until handed over."""
        return deref(self._delivery).outstanding()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the fate of all is known; tell whether that came in time."""
        cdef CppDelivery* delivery = self._delivery.get()
        cdef int64_t slice_ms
        cdef cbool is_done = False
        deadline = monotonic() + timeout_s
        while True:
            slice_ms = _slice_ms(deadline)
            with nogil:
                is_done = delivery.Wait(milliseconds(slice_ms))
            PyErr_CheckSignals()
            if is_done or monotonic() >= deadline:
                return is_done

    def failures(self) -> list[FailedRecord]:
        """Return the records that were not written."""
        return [
            FailedRecord(
                failed.row,
                _text(failed.topic),
                failed.partition,
                _error_of_writing(failed.code, failed.reason),
                failed.was_sent,
            )
            for failed in deref(self._delivery).failures()
        ]

    def written(self) -> list[WrittenRecords]:
        """Return where records were written so far."""
        return [
            WrittenRecords(
                _text(part.topic),
                part.partition,
                part.records,
                part.bytes,
                part.first_offset,
                part.last_offset,
            )
            for part in deref(self._delivery).written()
        ]
