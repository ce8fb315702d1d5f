"""The commands as processes: Ctrl-C, closed pipes, terminals, and what is not installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import orjson
import pytest

from tests.kafka.command_line import json_lines, run, start, terminal
from tests.kafka.reading import number, read_all
from tests.servers import KafkaBroker, running_broker

#: Runs the command line where some packages cannot be imported.
_WITHOUT = """
import sys

blocked = sys.argv.pop(1).split(",")


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")


sys.meta_path.insert(0, Blocked())

from sabot_ray.cli import main

main()
"""


def _without(blocked: str, *arguments: str, servers: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", _WITHOUT, blocked, *arguments, "-b", servers],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def record_count(broker: KafkaBroker, topic: str) -> int:
    """Return how many records a topic of one partition has."""
    (row,) = json_lines(run("topics", topic, "--json", servers=broker.bootstrap_servers))
    return row["records"]


def test_tail_ends_at_once_and_cleanly_at_ctrl_c(broker, topic, produce, backend):
    produce(topic, map(number, range(3)))
    tail = start(
        "tail", topic, "--start", "earliest", "--json", "--backend", backend,
        servers=broker.bootstrap_servers,
    )  # fmt: skip
    assert [tail.stdout.readline() for _ in range(3)] == [b'{"n":%d}\n' % n for n in range(3)]
    # Records that come later are shown as well.
    produce(topic, [number(3)])
    assert tail.stdout.readline() == b'{"n":3}\n'
    tail.send_signal(signal.SIGINT)
    rest, told = tail.communicate(timeout=5)
    assert (tail.returncode, rest, told) == (130, b"", b"")


def test_tail_ends_when_the_pipe_closes_though_nothing_comes(broker, topic, produce, backend):
    produce(topic, [number(0)])
    tail = start(
        "tail", topic, "--start", "earliest", "--backend", backend,
        servers=broker.bootstrap_servers,
    )  # fmt: skip
    assert [tail.stdout.readline() for _ in range(2)] == [b"n\n", b"0\n"]
    tail.stdout.close()
    assert tail.wait(5) == 0
    assert tail.stderr.read() == b""
    tail.stderr.close()


def test_tail_into_head_ends_without_a_word(broker, topic, produce):
    produce(topic, map(number, range(5000)))
    shell = subprocess.run(
        f"set -o pipefail; {sys.executable} -m sabot_ray tail {topic} --start earliest | head -2",
        shell=True,
        executable="/bin/bash",
        env={**os.environ, "SABOT_RAY_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (shell.returncode, shell.stdout, shell.stderr) == (0, b"n\n0\n", b"")


def test_tail_waits_for_the_first_record_of_an_empty_topic(broker, topic, produce, backend):
    tail = start("tail", topic, "--json", "--backend", backend, servers=broker.bootstrap_servers)
    told = tail.stderr.readline()
    assert told == f"topic '{topic}' is empty: waiting for its first record\n".encode()
    produce(topic, [number(7)])
    assert tail.stdout.readline() == b'{"n":7}\n'
    tail.send_signal(signal.SIGINT)
    tail.communicate(timeout=5)
    assert tail.returncode == 130


def test_ctrl_c_does_not_wait_for_brokers_that_do_not_answer(wait_until):
    # Nobody listens on the discard port; the client goes on trying for ten seconds.
    topics = start("-v", "topics", servers="127.0.0.1:9")
    assert topics.stderr.readline()
    topics.send_signal(signal.SIGINT)
    topics.communicate(timeout=4)
    assert topics.returncode == 130


def test_produce_delivers_what_is_on_its_way_at_ctrl_c(broker, topic, wait_until, backend):
    produce = start(
        "produce", topic, "--rate", "500", "--json", "--backend", backend,
        servers=broker.bootstrap_servers,
    )  # fmt: skip

    wait_until(lambda: record_count(broker, topic), 30)
    produce.send_signal(signal.SIGINT)
    summary, told = produce.communicate(timeout=20)
    assert (produce.returncode, told) == (130, b"")
    assert orjson.loads(summary)["records"] == record_count(broker, topic) > 0


@pytest.mark.parametrize("options", [["--rate", "2000"], []], ids=["slow", "more-than-fits"])
def test_produce_gives_up_what_is_on_its_way_at_the_second_ctrl_c(wait_until, backend, options):
    if backend == "native":
        options = [*options, "-X", "queue.buffering.max.messages=5000"]
    with running_broker() as broker:
        broker.create_topic("t")
        produce = start(
            "produce", "t", "--json", "--backend", backend, *options,
            servers=broker.bootstrap_servers,
        )  # fmt: skip
        # More than are ever under way: some must have been acknowledged.
        wait_until(lambda: record_count(broker, "t") > 5000, 30)
        broker.freeze()
        for _ in range(2):
            # It waits for the broker, also after the first Ctrl-C.
            with pytest.raises(subprocess.TimeoutExpired):
                produce.wait(2.0)
            produce.send_signal(signal.SIGINT)
        summary, told = produce.communicate(timeout=10)
    assert produce.returncode == 1
    found = orjson.loads(summary)
    assert found["records"] > 0
    unknown, total = found["failed"], found["records"] + found["failed"]
    assert told.decode() == (
        f"Error: topic 't': {unknown} of {total} records are not acknowledged; they may or may not "
        "have been written\n"
    )


def test_produce_writes_the_lines_of_a_pipe_as_they_come(broker, topic, wait_until, backend):
    produce = start(
        "produce", topic, "--file", "-", "--json", "--backend", backend,
        servers=broker.bootstrap_servers, stdin=subprocess.PIPE,
    )  # fmt: skip
    for count, text in enumerate((b"a\nb", b"c\n", b"d\n"), 1):
        produce.stdin.write(text)
        produce.stdin.flush()
        wait_until(lambda count=count: len(read_all(broker, topic)) == count, 30)
    summary, told = produce.communicate(b"last", timeout=20)
    assert (produce.returncode, told) == (0, b"")
    assert orjson.loads(summary)["records"] == 4
    values = [record.value for record in read_all(broker, topic)]
    assert values == [b"a", b"bc", b"d", b"last"]


def test_tail_on_a_terminal_is_a_table_as_wide_as_it(broker, topic, produce):
    rows = [
        {"id": n, "text": "x" * 100, "items": [{"product": "lamp"}] * 9, "evil": "\x1b[31m"}
        for n in range(3)
    ]
    produce(topic, map(orjson.dumps, rows))
    command = ("tail", topic, "--start", "earliest", "--end", "latest")
    with terminal(*command, servers=broker.bootstrap_servers) as shown:
        assert shown.wait() == 0
        lines = shown.text.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert lines[0].split() == ["id", "text", "items", "evil"]
    assert set(lines[1]) == {"─"}
    assert [line.split()[0] for line in lines[2:]] == ["0", "1", "2"]
    assert all(len(line) <= 80 and "…" in line for line in lines[2:])
    assert all(line.rstrip().endswith("\\x1b[31m") for line in lines[2:])


def test_lag_watch_on_a_terminal_follows_the_group(broker, topic, produce):
    produce(topic, map(number, range(3)))
    command = ("lag", "watched", "--topic", topic, "--watch", "--interval", "0.2")
    with terminal(*command, servers=broker.bootstrap_servers) as shown:
        shown.wait_for("consumed 0/s")
        produce(topic, map(number, range(1234)))
        shown.wait_for("1,237")
        shown.interrupt()
        assert shown.wait() == 130
        assert "Traceback" not in shown.text
        # The cursor is shown again.
        assert shown.text.rindex("\x1b[?25h") > shown.text.rindex("\x1b[?25l")


def test_lag_watch_in_a_pipe_prints_json_until_it_closes(broker, topic):
    lag = start(
        "lag", "watched", "--topic", topic, "--watch", "--interval", "0.1", "--json",
        servers=broker.bootstrap_servers,
    )  # fmt: skip
    assert [orjson.loads(lag.stdout.readline())["topic"] for _ in range(3)] == [topic] * 3
    lag.stdout.close()
    assert lag.wait(5) == 0
    assert lag.stderr.read() == b""
    lag.stderr.close()


@pytest.mark.parametrize("blocked", ["ray", "ray,confluent_kafka"])
def test_commands_work_without_ray_and_without_confluent_kafka(broker, make_topic, blocked):
    topic = make_topic(partitions=2)
    servers = broker.bootstrap_servers
    written = _without(blocked, "produce", topic, "--records", "700", "--json", servers=servers)
    assert orjson.loads(written.stdout)["records"] == 700
    assert _without(blocked, "topics", topic, servers=servers).returncode == 0
    lag = _without(blocked, "lag", "nobody", "--topic", topic, servers=servers)
    assert lag.stdout.endswith("total lag 0\n")
    read = _without(
        blocked, "tail", topic, "--start", "earliest", "-n", "700", "--columns", "id", "--json",
        servers=servers,
    )  # fmt: skip
    ids = [orjson.loads(line)["id"] for line in read.stdout.splitlines()]
    assert sorted(ids) == [*range(700)]


def test_topics_are_completed(broker, topic):
    found = subprocess.run(
        [sys.executable, "-c", "from sabot_ray.cli import main; main(prog_name='sabot-ray')"],
        env={
            **os.environ,
            "SABOT_RAY_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "_SABOT_RAY_COMPLETE": "bash_complete",
            "COMP_WORDS": f"sabot-ray tail {topic[:-3]}",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert f"plain,{topic}" in found.stdout.splitlines()
