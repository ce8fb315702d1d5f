"""What the README shows, run as a user runs it: in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sabot_ray.testing import EmbeddedKafka

ROOT = Path(__file__).parents[2]


def run(environment: dict[str, str], *command: str) -> str:
    """Run a command; return what it printed, fail with all of it otherwise."""
    finished = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


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


def test_many_topics_counts_the_rows_of_both(environment: dict[str, str]) -> None:
    output = run(environment, sys.executable, "examples/many_topics.py")

    assert "orders-eu: 60 rows\norders-us: 60 rows\n" in output
    assert "orders-eu partition 0 from offset 5: " in output


def test_columns_prints_the_rows_of_one_currency_after_the_other(
    environment: dict[str, str],
) -> None:
    output = run(environment, sys.executable, "examples/columns.py")

    assert output.endswith("EUR   9.50\nEUR  29.50\nEUR  49.50\nUSD  19.50\nUSD  39.50\n")


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


def test_info_names_the_backend_and_the_versions(environment: dict[str, str]) -> None:
    output = run(environment, sys.executable, "-m", "sabot_ray", "info")

    lines = dict(line.rstrip().split(maxsplit=1) for line in output.splitlines())
    assert lines["backend"] == "native"
    assert {"sabot-ray", "ray", "pyarrow", "confluent-kafka", "aiokafka"} <= lines.keys()
