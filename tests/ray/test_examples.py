"""What the README shows, run as a user runs it: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(environment: dict[str, str], *command: str) -> str:
    """Run a command; return what it printed, fail with all of it otherwise."""
    finished = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_quickstart_prints_the_rows_over_the_threshold(environment: dict[str, str]) -> None:
    output = run(environment, sys.executable, "examples/quickstart.py")

    for number in range(5, 10):
        assert f"{{'id': {number}, 'amount': {250.0 * number}}}" in output
    assert "'id': 4" not in output
    assert output.endswith("left for a second run: 0 rows\n")


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
