"""The raw contenders, in C++: librdkafka's loops over one partition queue and of a producer."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bench.job import Job, WriteJob

_HERE = Path(__file__).parent
_BUILD = _HERE.parent.parent / "build" / "bench-raw"


@functools.cache
def build() -> Path:
    """Build the programs where they are not up to date, and return their folder.

    Raises:
        RuntimeError: The compiler refused; the message holds what it printed.
    """
    # The environment's own; what the system has may be too old.
    cmake = str(Path(sys.executable).with_name("cmake"))
    configure = [cmake, "-S", str(_HERE), "-B", str(_BUILD), "-DCMAKE_BUILD_TYPE=Release"]
    for command in (configure, [cmake, "--build", str(_BUILD)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return _BUILD


def librdkafka() -> Path:
    """Return the librdkafka of the confluent-kafka wheel, the one that all contenders use."""
    spec = importlib.util.find_spec("confluent_kafka")
    assert spec is not None
    assert spec.origin is not None
    libraries = Path(spec.origin).parent.with_name("confluent_kafka.libs")
    [library] = libraries.glob("librdkafka-*.so.1")
    return library


def command(job: Job) -> list[str]:
    """Return the command that reads what a job asks for."""
    return [
        str(build() / "raw"),
        str(librdkafka()),
        job.topic,
        str(job.rows),
        *_arguments(job.librdkafka_settings()),
    ]


def writer_command(job: WriteJob, values: Literal["memory", "copy"]) -> list[str]:
    """Return the command that writes what a job asks for.

    Args:
        job: The job.
        values: ``"memory"``: they are all there before the clock starts; ``"copy"``: they are read
            meanwhile.
    """
    return [
        str(build() / "raw_writer"),
        str(librdkafka()),
        job.topic,
        job.target,
        str(job.rows),
        values,
        *_arguments(job.librdkafka_settings()),
        "--",
        *_arguments(job.producer_settings()),
    ]


def _arguments(settings: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]
