"""The raw contender: librdkafka's loop over one partition queue in C++, counting rows and bytes."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

from bench.job import Job

_HERE = Path(__file__).parent
_BUILD = _HERE.parent.parent / "build" / "bench-raw"


@functools.cache
def build() -> Path:
    """Build the program where it is not up to date, and return its path.

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
    return _BUILD / "raw"


def librdkafka() -> Path:
    """Return the librdkafka of the confluent-kafka wheel, the one that all contenders use."""
    spec = importlib.util.find_spec("confluent_kafka")
    assert spec is not None
    assert spec.origin is not None
    libraries = Path(spec.origin).parent.with_name("confluent_kafka.libs")
    [library] = libraries.glob("librdkafka-*.so.1")
    return library


def command(job: Job) -> list[str]:
    """Return the command that does a job."""
    settings = [f"{name}={value}" for name, value in job.librdkafka_settings().items()]
    return [str(build()), str(librdkafka()), job.topic, str(job.rows), *settings]
