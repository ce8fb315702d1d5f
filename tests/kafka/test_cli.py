"""The commands against a real broker, in this process."""

from __future__ import annotations

import confluent_kafka
import orjson
import pytest

from sabot_ray.testing import Record
from tests.kafka.command_line import failure, json_lines, run
from tests.kafka.reading import number
from tests.servers import free_ports


@pytest.fixture
def sabot_ray(broker):
    """A function that runs a command against the shared broker."""

    def run_here(*arguments: str, data: bytes | None = None):
        return run(*arguments, servers=broker.bootstrap_servers, data=data)

    return run_here


@pytest.fixture
def commit(broker):
    def commit_one(group: str, topic: str, partition: int, offset: int) -> None:
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": broker.bootstrap_servers, "group.id": group}
        )
        where = confluent_kafka.TopicPartition(topic, partition, offset)
        consumer.commit(offsets=[where], asynchronous=False)
        consumer.close()

    return commit_one


def _values(broker, topic: str) -> dict[int, list[tuple[bytes | None, bytes | None]]]:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "test-values",
            "enable.partition.eof": True,
        }
    )
    partitions = sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in partitions])
    found = {p: [] for p in partitions}
    ended = 0
    while ended < len(partitions):
        record = consumer.poll(10)
        if record.error() is None:
            found[record.partition()].append((record.key(), record.value()))
        else:
            assert record.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
            ended += 1
    consumer.close()
    return found


# topics


def test_topics_lists_partitions_and_records(sabot_ray, make_topic, produce):
    topic = make_topic(partitions=2)
    produce(topic, map(number, range(3)))
    listed = json_lines(sabot_ray("topics", "--json"))
    assert {"topic": topic, "partitions": 2, "records": 3} in listed
    assert not [row for row in listed if row["topic"].startswith("__")]
    lines = sabot_ray("topics").stdout.splitlines()
    assert lines[0].split() == ["topic", "partitions", "records"]
    assert [topic, "2", "3"] in [line.split() for line in lines]


def test_topics_of_one_topic_shows_leader_and_bounds(
    sabot_ray, topic, produce, produce_in_transaction
):
    produce(topic, [number(0)])
    produce_in_transaction(topic, [number(1)])
    (row,) = json_lines(sabot_ray("topics", topic, "--json"))
    assert row == {
        "topic": topic, "partition": 0, "leader": 1,
        "low": 0, "high": 2, "last_stable": 1, "records": 2,
    }  # fmt: skip
    header, line = sabot_ray("topics", topic).stdout.splitlines()
    assert header.split("  ")[-1] == "records"
    assert line.split() == ["0", "1", "0", "2", "1", "2"]


@pytest.mark.parametrize("command", [["topics"], ["tail"], ["produce"], ["lag", "g", "--topic"]])
def test_missing_topic_is_one_line_that_says_what_to_do(sabot_ray, broker, command):
    assert failure(sabot_ray(*command, "test-missing")) == (
        f"topic 'test-missing' does not exist on {broker.bootstrap_servers}; create it first, or "
        "check its spelling"
    )


@pytest.mark.parametrize("command", [["topics"], ["tail", "t"], ["lag", "g"]])
def test_no_broker_is_one_line_with_the_likely_question(command):
    told = failure(run(*command, servers=f"127.0.0.1:{free_ports(1)[0]}"))
    assert "answered within 10 s" in told
    assert "are host and port right" in told


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("fetch.min.bites=1", "unknown option or Kafka setting 'fetch.min.bites'; did you mean "
         "'fetch.min.bytes'?"),
        ("fetch.min.bytes=many", "setting 'fetch.min.bytes': expected int, found str"),
        ("group.id=g", "setting 'group.id' is managed by sabot_ray: pass group_id"),
    ],
)  # fmt: skip
def test_bad_setting_is_refused_before_any_connection(option, message):
    assert failure(run("topics", "-X", option, servers="127.0.0.1:1")) == message


def test_usage_errors_end_with_two():
    assert "no brokers named: pass -b HOST:PORT" in failure(run("topics"), 2)
    assert "'linger' is not NAME=VALUE" in failure(run("topics", "-X", "linger"), 2)


@pytest.mark.parametrize("name", ["sasl.password", "sasl_plain_password", "ssl.key.pem"])
def test_secret_among_the_arguments_is_refused_and_not_shown(name):
    told = failure(run("topics", "-X", f"{name}=hunter2", servers="127.0.0.1:1"), 2)
    assert f"pass -X {name}=env:NAME or -X {name}=file:PATH, or a --config file" in told
    assert "hunter2" not in told


def test_config_file_names_the_brokers_and_loses_to_options(broker, topic, tmp_path):
    file = tmp_path / "client.properties"
    file.write_text(f"# brokers\nbootstrap.servers = {broker.bootstrap_servers}\nfetch.min.bytes=x")
    message = failure(run("topics", topic, "--config", str(file)))
    assert message == "setting 'fetch.min.bytes': expected int, found str"
    assert json_lines(
        run("topics", topic, "--json", "--config", str(file), "-X", "fetch.min.bytes=1")
    )


# lag


def test_lag_counts_from_the_committed_offset(sabot_ray, make_topic, produce, commit):
    topic = make_topic(partitions=3)
    group = f"{topic}-group"
    produce(topic, [Record(number(n), partition=n % 2) for n in range(10)])
    commit(group, topic, 0, 2)
    commit(group, topic, 1, 5)
    rows = json_lines(sabot_ray("lag", group, "--json"))
    assert [(r["partition"], r["committed"], r["high"], r["lag"]) for r in rows] == [
        (0, 2, 5, 3), (1, 5, 5, 0), (2, None, 0, None),
    ]  # fmt: skip
    header, *lines, total = sabot_ray("lag", group).stdout.splitlines()
    assert header.split() == ["topic", "partition", "committed", "last", "stable", "high", "lag"]
    assert [line.split() for line in lines] == [
        [topic, "0", "2", "5", "5", "3"],
        [topic, "1", "5", "5", "5", "0"],
        [topic, "2", "-", "0", "0", "-"],
    ]
    assert total == "total lag 3"
    assert sabot_ray("lag", group, "--max-lag", "3").exit_code == 0
    assert sabot_ray("lag", group, "--max-lag", "2").exit_code == 3


def test_lag_of_group_without_commits_is_an_error_unless_the_topic_is_named(sabot_ray, topic):
    message = failure(sabot_ray("lag", f"{topic}-none"))
    assert message.startswith(f"group '{topic}-none' has committed nothing; is the name right")
    (row,) = json_lines(sabot_ray("lag", f"{topic}-none", "--topic", topic, "--json"))
    assert (row["committed"], row["lag"]) == (None, None)


# tail


def _tail(sabot_ray, backend, topic, *options: str):
    return sabot_ray("tail", topic, "--backend", backend, *options)


def _payments(n: int) -> bytes:
    return orjson.dumps(
        {"id": n, "amount": n * 100.5, "user": {"country": ("DE", "FR")[n % 2]}, "note": None}
    )


def test_tail_last_reads_every_partition_to_its_end(sabot_ray, backend, make_topic, produce):
    topic = make_topic(partitions=2)
    produce(topic, [Record(number(n), partition=n % 2) for n in range(20)])
    columns = ("--columns", "n,_kafka_partition,_kafka_offset")
    rows = json_lines(
        _tail(sabot_ray, backend, topic, "--last", "2", "--end", "latest", "--json", *columns)
    )
    assert sorted((r["n"], r["_kafka_partition"], r["_kafka_offset"]) for r in rows) == [
        (16, 0, 8), (17, 1, 8), (18, 0, 9), (19, 1, 9),
    ]  # fmt: skip


def test_tail_in_a_pipe_prints_lines_with_tabs(sabot_ray, backend, topic, produce):
    produce(topic, [_payments(1), Record(b'{"note":"a\\tb\\u001b[31m"}', key=b"k\xff")])
    result = _tail(
        sabot_ray, backend, topic, "--start", "earliest", "--end", "latest",
        "--columns", "id,amount,user,note,_kafka_key",
    )  # fmt: skip
    assert result.stdout.splitlines() == [
        "id\tamount\tuser\tnote\t_kafka_key",
        '1\t100.5\t{"country":"FR"}\tnull\tnull',
        "null\tnull\tnull\ta\\tb\\x1b[31m\tbase64:a/8=",
    ]


def test_tail_filters_and_stops_after_rows(sabot_ray, backend, topic, produce):
    produce(topic, map(_payments, range(50)))
    where = "amount > 1000 and user.country == 'FR' and not id in [13, 15]"
    rows = json_lines(
        _tail(
            sabot_ray, backend, topic, "--start", "earliest", "-n", "3", "--json",
            "--where", where, "--columns", "id",
        )
    )  # fmt: skip
    assert rows == [{"id": 11}, {"id": 17}, {"id": 19}]


def test_tail_of_a_range_of_one_partition(sabot_ray, backend, make_topic, produce):
    topic = make_topic(partitions=2)
    produce(topic, [Record(number(n), partition=0) for n in range(9)], linger_ms=100)
    rows = json_lines(
        _tail(sabot_ray, backend, topic, "-p", "0", "--start", "3", "--end", "5", "--json")
    )
    assert rows == [{"n": 3}, {"n": 4}]


def test_tail_starts_and_ends_at_a_time(sabot_ray, backend, topic, produce):
    begin_ms = 1_767_225_600_000  # 2026-01-01
    produce(topic, [Record(number(n), timestamp_ms=begin_ms + n * 60_000) for n in range(5)])
    bounds = ("--start", "2026-01-01T00:01", "--end", "2026-01-01T01:03:00+01:00")
    assert json_lines(_tail(sabot_ray, backend, topic, *bounds, "--json")) == [{"n": 1}, {"n": 2}]


def test_tail_tells_what_it_skips_and_stops_where_asked(sabot_ray, backend, topic, produce):
    produce(topic, [number(0), b"broken", number(2)])
    range_ = ("--start", "earliest", "--end", "latest", "--json")
    result = _tail(sabot_ray, backend, topic, *range_)
    assert result.stdout.splitlines() == ['{"n":0}', '{"n":2}']
    assert result.stderr.startswith(f"skipped: topic '{topic}' partition 0 offset 1: field $: ")
    failed = _tail(sabot_ray, backend, topic, *range_, "--errors", "fail")
    assert (failed.exit_code, failed.stdout) == (1, '{"n":0}\n')
    assert failed.stderr.startswith(f"Error: topic '{topic}' partition 0 offset 1: field $: ")


def test_tail_takes_a_declared_schema(sabot_ray, backend, topic, produce):
    produce(topic, [b'{"n": 1, "at": "2026-01-31T12:00:00Z"}'])
    rows = json_lines(
        _tail(
            sabot_ray, backend, topic, "--start", "earliest", "-n", "1", "--json",
            "--schema", "at=timestamp[ms, UTC], n=float64", "--where", "at >= '2026-01-31'",
        )
    )  # fmt: skip
    assert rows == [{"at": "2026-01-31T12:00:00Z", "n": 1.0}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", "amout > 1"], "--where: there is no column 'amout'; did you mean 'amount'?"),
        (["--where", "amount = 1"], "--where 'amount = 1': invalid syntax; == compares"),
        (["--columns", "idd"], "columns: there is no column 'idd'; did you mean 'id'?"),
        (["--partition", "7"], "--partition: topic '{topic}' has 1 partitions and no 7"),
        (["--schema", "id=int46"], "schema: field $.id: 'int46' is not the name of a type; did you "
         "mean 'int64'?"),
    ],
)  # fmt: skip
def test_tail_with_wrong_options_says_what_is_wrong(sabot_ray, topic, produce, options, message):
    produce(topic, [_payments(1)])
    told = failure(sabot_ray("tail", topic, "--end", "latest", *options))
    assert told == message.format(topic=topic)


def test_tail_to_the_end_of_an_empty_topic_is_an_error(sabot_ray, topic):
    assert failure(sabot_ray("tail", topic, "--end", "latest")) == (
        f"topic '{topic}' is empty, and --end latest ends there"
    )


# produce


@pytest.fixture
def write(sabot_ray, backend):
    """A function that runs `produce` with a backend; the test runs once with each."""

    def run_here(topic: str, *arguments: str, data: bytes | None = None):
        return sabot_ray("produce", topic, "--backend", backend, *arguments, data=data)

    return run_here


def test_produce_delivers_every_record_of_a_shape(write, broker, make_topic):
    topic = make_topic(partitions=3)
    (summary,) = json_lines(write(topic, "--records", "500", "--seed", "7", "--json"))
    found = _values(broker, topic)
    assert (summary["records"], summary["failed"]) == (500, 0)
    assert summary["partitions"] == [
        {"partition": p, "records": len(rows), "first_offset": 0, "last_offset": len(rows) - 1}
        for p, rows in found.items()
    ]
    everything = [row for rows in found.values() for row in rows]
    assert summary["bytes"] == sum(len(key) + len(value) for key, value in everything)
    assert sorted(orjson.loads(value)["id"] for _, value in everything) == [*range(500)]
    # A key has one partition.
    assert len({key for key, _ in everything}) == sum(
        len({k for k, _ in r}) for r in found.values()
    )


@pytest.mark.parametrize("shape", ["transactions", "clicks", "orders", "sensors"])
def test_produce_shapes_are_read_back_and_repeat_with_their_seed(write, sabot_ray, topic, shape):
    for _ in range(2):
        result = write(topic, "--shape", shape, "--records", "20", "--seed", "3")
        assert result.exit_code == 0
    rows = json_lines(
        sabot_ray("tail", topic, "--start", "earliest", "--end", "latest", "--errors", "fail",
                  "--json")
    )  # fmt: skip
    assert rows[:20] == rows[20:]
    assert len(rows) == 40


def test_produce_creates_the_topic_where_it_is_missing(write, sabot_ray, broker, make_topic):
    topic = make_topic()
    broker.delete_topic(topic)
    for partitions in ("3", "5"):
        result = write(topic, "--records", "1", "--create-partitions", partitions)
        assert result.exit_code == 0
    (row,) = [r for r in json_lines(sabot_ray("topics", "--json")) if r["topic"] == topic]
    assert (row["partitions"], row["records"]) == (3, 2)


def test_produce_writes_lines_with_keys(write, broker, topic):
    result = write(
        topic, "--file", "-", "--key-separator", "::", data=b"a::1\nb::x::y\n::\nc::last"
    )
    assert result.exit_code == 0
    assert _values(broker, topic) == {
        0: [(b"a", b"1"), (b"b", b"x::y"), (b"", b""), (b"c", b"last")]
    }


def test_produce_tells_the_line_without_a_key_and_delivers_those_before(write, broker, topic):
    result = write(topic, "--file", "-", "--key-separator", ":", "--json", data=b"a:1\nb\nc:3\n")
    assert result.exit_code == 1
    assert "line 2: there is no key separator ':'; the lines before" in result.stderr
    assert orjson.loads(result.stdout)["records"] == 1
    assert _values(broker, topic) == {0: [(b"a", b"1")]}


def test_produce_tells_a_record_that_is_refused(write, make_topic):
    topic = make_topic(max_message_bytes=200)
    lines = b"small\n" + bytes(range(97, 123)) * 40 + b"\n"
    result = write(
        topic, "--file", "-", "-X", "compression.type=none", "-X", "linger.ms=0",
        data=lines,
    )  # fmt: skip
    assert result.exit_code == 1
    assert "records were not delivered, the first: topic" in result.stderr
    assert "SIZE_TOO_LARGE" in result.stderr


def test_produce_keeps_the_rate(write, topic):
    (summary,) = json_lines(write(topic, "--records", "40", "--rate", "50", "--json"))
    # The last record is due after 39 / 50 s.
    assert summary["seconds"] >= 0.78


# completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_SABOT_RAY_COMPLETE={shell}_complete" in result.stdout


@pytest.mark.parametrize("command", ["", "topics", "tail", "lag", "produce", "completion"])
def test_help_fits_80_columns_and_has_examples(command):
    result = run(*filter(None, [command]), "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
