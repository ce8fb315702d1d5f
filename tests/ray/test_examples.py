"""What the README shows, and the examples; the README's run as a user runs them, in processes."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from confluent_kafka.admin import ResourceType

from sabot_ray.testing import EmbeddedKafka, Record
from sabot_ray.testing import produce as write
from tests.conftest import MakeTopic, Produce
from tests.secure_broker import SecureBroker
from tests.servers import KafkaBroker

ROOT = Path(__file__).parents[2]


def run(environment: dict[str, str], *command: str) -> str:
    """Run a command; return what it printed, fail with all of it otherwise."""
    finished = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


RunExample = Callable[..., str]


@pytest.fixture
def run_example(
    ray_session: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunExample:
    """A function that runs an example on the tests' Ray, which saves its start."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_quickstart_prints_the_rows_over_the_threshold(environment: dict[str, str]) -> None:
    output = run(environment, sys.executable, "examples/quickstart.py")

    for number in range(5, 10):
        assert f"{{'id': {number}, 'amount': {250.0 * number}}}" in output
    assert "'id': 4" not in output
    assert output.endswith("left for a second run: 0 rows\n")


def test_readme_snippet_of_a_run_by_hand_runs_as_shown(environment: dict[str, str]) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (snippet,) = [snippet for snippet in snippets if "a run by hand" in snippet]
    with EmbeddedKafka(partitions=2) as kafka:
        kafka.produce("transactions", [{"id": n, "amount": 250.0 * n} for n in range(10)])
        snippet = snippet.replace("localhost:9092", kafka.bootstrap_servers)
        output = run(environment, sys.executable, "-c", snippet)

    partitions = re.findall(r"│ transactions\[\d\] │ +(\d+) │", output)
    assert len(partitions) == 2
    assert sum(map(int, partitions)) == 10


def test_flagged_writes_the_rows_over_the_threshold(environment: dict[str, str]) -> None:
    output = run(environment, sys.executable, "examples/flagged.py")

    rows = [f"{{'id': {number}, 'amount': {250.0 * number}}}" for number in range(5, 10)]
    first, *found = output.splitlines()
    assert first == "written: 5 rows"
    assert sorted(found) == rows


def test_many_topics_counts_the_rows_of_both(environment: dict[str, str]) -> None:
    output = run(environment, sys.executable, "examples/many_topics.py")

    assert "orders-eu: 60 rows\norders-us: 60 rows\n" in output
    assert "orders-eu partition 0 from offset 5: 15 rows" in output


def test_columns_prints_the_rows_of_one_currency_after_the_other(
    environment: dict[str, str],
) -> None:
    output = run(environment, sys.executable, "examples/columns.py")

    assert output.endswith("EUR   9.50\nEUR  29.50\nEUR  49.50\nUSD  19.50\nUSD  39.50\n")


def test_keys_and_headers_prints_each_record(run_example: RunExample) -> None:
    assert run_example("keys_and_headers.py").splitlines() == [
        "0: acme/1 Ada {'trace': '4bf9', 'source': 'web'}",
        "1: acme/2 Grace ",
        "2: acme/1 (deleted) {'source': 'admin'}",
    ]


def test_messy_records_keeps_what_it_can(run_example: RunExample) -> None:
    assert run_example("messy_records.py").splitlines() == [
        "1 19.90 2026-01-31 ['pen', 'ink'] None",
        """2 5.00 2026-02-01 None {"$.vat":{"rate":0.2}}""",
        "5 0.50 None None None",
        "skipped: 2",
    ]


def test_growing_records_become_columns(run_example: RunExample) -> None:
    assert run_example("growing_records.py").splitlines() == [
        "id: int64",
        "0",
        "1",
        "2",
        "id: int64, plan: string, seats: int64",
        "3 team 3",
        "4 team 4",
        "5 None None",
    ]


def test_busy_partition_keeps_the_order(run_example: RunExample) -> None:
    assert run_example("busy_partition.py") == "20,000 rows in order\n"


def test_text_lines_prints_those_that_begin_with_error(run_example: RunExample) -> None:
    assert run_example("text_lines.py") == "ERROR disk full\nERROR gone\n"


def test_time_range_counts_the_records_between_two_times(
    run_example: RunExample, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic(partitions=2)
    noon_ms = 1_767_268_800_000  # 2026-01-01T12:00:00Z
    produce(
        topic,
        [Record(b"x", partition=n % 2, timestamp_ms=noon_ms + 60_000 * n) for n in range(10)],
    )

    output = run_example(
        "time_range.py",
        broker.bootstrap_servers,
        topic,
        "2026-01-01T12:02",
        "2026-01-01T14:07+02:00",
    )

    assert output.splitlines() == [
        "partition 0: 3 records from 12:02:00 to 12:06:00",
        "partition 1: 2 records from 12:03:00 to 12:05:00",
    ]


def test_secure_reads_with_the_right_password_and_tells_what_is_wrong(
    run_example: RunExample, secure_broker: SecureBroker, tmp_path: Path
) -> None:
    topic = user = f"test-{uuid.uuid4().hex[:12]}"
    secure_broker.create_topic(topic)
    write(secure_broker.bootstrap_servers, topic, [b'{"n": 1}'])
    secure_broker.add_scram_user(user, "scram-pw")
    secure_broker.allow(user, ResourceType.TOPIC, topic, "READ", "DESCRIBE")
    password = tmp_path / "password"
    password.write_text("scram-pw")
    arguments = (
        secure_broker.address("SCRAM"),
        topic,
        secure_broker.certificates["ca.pem"],
        user,
        str(password),
    )

    output = run_example("secure.py", *arguments)

    assert f"Secret('file:{password}')" in output
    assert output.endswith("\n1 rows\n")
    password.write_text("wrong")
    with pytest.raises(SystemExit, match=r"AuthenticationFailed: .*invalid credentials"):
        run_example("secure.py", *arguments)
    secure_broker.delete_topic(topic)


def test_union_sums_up_both_clusters(run_example: RunExample) -> None:
    assert run_example("union.py").splitlines() == [
        "eu: 9.25",
        "us: 12.25",
        "committed to the groups billing, billing",
    ]


def test_cluster_file_is_one_that_ray_up_takes() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(config))


@pytest.mark.parametrize("option", [(), ("--aiokafka",)])
def test_demo_reads_every_record_it_wrote(
    environment: dict[str, str], option: tuple[str, ...]
) -> None:
    output = run(
        environment, sys.executable, "-m", "sabot_ray", "demo", "--records", "3000", *option
    )

    assert f"{'aiokafka' if option else 'native'} backend" in output
    totals = next(line for line in output.splitlines() if "│ all" in line)
    assert "3,000" in totals


def test_demo_bears_more_partitions_than_records(environment: dict[str, str]) -> None:
    arguments = ["demo", "--records", "2", "--partitions", "3"]
    output = run(environment, sys.executable, "-m", "sabot_ray", *arguments)

    rows = [line.split() for line in output.splitlines() if line.startswith("│ ")]
    committed = [row[-2] for row in rows if row[1] in ("0", "1", "2") and row[3] in ("0", "1")]
    assert committed == ["1", "1", "│"]


def test_info_names_the_backend_and_the_versions(environment: dict[str, str]) -> None:
    output = run(environment, sys.executable, "-m", "sabot_ray", "info")

    lines = dict(line.rstrip().split(maxsplit=1) for line in output.splitlines())
    assert lines["backend"] == "native"
    assert {"sabot-ray", "ray", "pyarrow", "confluent-kafka", "aiokafka"} <= lines.keys()
