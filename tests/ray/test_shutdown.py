"""What is left of a stream once Ray is shut down, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile

from tests.faults.ledger import fill
from tests.servers import KafkaBroker

SCRIPT = """
import sys

import ray

from sabot_ray import Stream

ray.init(address="local", include_dashboard=False, num_cpus=1, _temp_dir=sys.argv[3])
run = Stream.from_kafka(sys.argv[1], sys.argv[2], sys.argv[2], end="latest", batch_size=1).start()
batches = iter(run)
next(batches)
next(batches)
ray.shutdown()
del batches
run.close()
print("ended")
"""


def test_stream_left_behind_by_a_shutdown_of_ray_is_closed_quietly(
    broker: KafkaBroker, topic: str, environment: dict[str, str]
) -> None:
    fill(broker.bootstrap_servers, topic, 1, 3)

    # The tests' own directories are too long for Ray's sockets.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        finished = subprocess.run(
            [sys.executable, "-c", SCRIPT, broker.bootstrap_servers, topic, directory],
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    assert finished.stdout.endswith("ended\n"), finished.stderr
    assert "Traceback" not in finished.stderr
    assert "Exception ignored" not in finished.stderr
