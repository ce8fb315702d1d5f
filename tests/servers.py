"""Starts the real servers that tests and benchmarks talk to, and makes sure that they stop.

Servers come from Maven into ``.servers/`` of the checkout (``SABOT_RAY_SERVERS_DIR`` names another
folder), are shared by all runs, and listen on loopback only. ``python -m tests.servers`` fetches
them without starting any.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

_FILES = Path(__file__).parent / "server_files"
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
_JVM = (
    "-Xms32m",
    "-Xmx256m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Djava.net.preferIPv4Stack=true",
)

#: `KafkaBroker.java_options` for measuring: as every real broker, it compiles fully. The tests' own
#: starts sooner, and then takes more of the cores that it shares with what is measured.
COMPILE_FULLY = ("-XX:TieredStopAtLevel=4",)

_KAFKA_SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "num.partitions": "1",
    # A test that misspells a topic shall fail instead of creating it.
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # The default of 128 MiB does not fit the heap.
    "log.cleaner.dedupe.buffer.size": "4194304",
    # Compaction and retention act within seconds, and only in topics that ask for it: the records
    # of many tests are of long ago.
    "log.retention.ms": "-1",
    "log.cleaner.backoff.ms": "200",
    "log.initial.task.delay.ms": "200",
    "log.retention.check.interval.ms": "500",
    # After a kill, the controller waits for this session before it lets the node in again.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}

#: Where nothing may be missing.
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

#: What a cluster's nodes have beyond that: three copies of everything, and elections in a second.
_KAFKA_CLUSTER_SETTINGS = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "replica.lag.time.max.ms": "3000",
}

_T = TypeVar("_T")


class ServerMissing(Exception):
    """A server cannot be had on this machine; the message says what is missing."""


def wait_until(
    condition: Callable[[], _T], timeout_s: float = 10.0, *, interval_s: float = 0.02
) -> _T:
    """Call ``condition`` until its result is true, and return that result.

    Raises:
        TimeoutError: It was still false, or still raised AssertionError, after ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        failure: AssertionError | None = None
        try:
            result = condition()
        except AssertionError as exc:
            failure = exc
        else:
            if result:
                return result
        if time.monotonic() > deadline:
            name = getattr(condition, "__qualname__", repr(condition))
            raise TimeoutError(f"{name} is not true after {timeout_s:g} s") from failure
        time.sleep(interval_s)


def servers_dir() -> Path:
    """Return the folder that downloaded servers are kept in."""
    default = Path(__file__).parent.parent / ".servers"
    return Path(os.environ.get("SABOT_RAY_SERVERS_DIR", default)).absolute()


def fetch_kafka() -> Path:
    """Return the folder with Kafka's jars, after downloading them if need be.

    Raises:
        ServerMissing: There is no Java, or the jars are not here and Maven cannot bring them.
    """
    if not shutil.which("java"):
        raise ServerMissing("no 'java' on the PATH: install a Java 17 runtime for the Kafka broker")
    pom = _FILES / "kafka.pom.xml"
    jars = servers_dir() / f"kafka-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if jars.is_dir():
        return jars
    if not shutil.which("mvn"):
        raise ServerMissing(f"no Kafka in {jars}, and no 'mvn' on the PATH to fetch it")
    servers_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=servers_dir()) as scratch:
        fetched = Path(scratch) / "jars"
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        maven = subprocess.run(
            [*command, f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if maven.returncode:
            raise ServerMissing(f"Maven could not fetch Kafka:\n{maven.stdout[-2000:]}")
        # Renamed as a whole, so that an interrupted or a parallel download leaves no half folder.
        with contextlib.suppress(OSError):
            fetched.rename(jars)
    return jars


def run_tool(java_class: str, *arguments: str, data: str = "") -> None:
    """Run one of Kafka's own programs to its end, with such a standard input.

    Raises:
        ServerMissing: Kafka cannot be had on this machine.
    """
    subprocess.run(
        ["java", *_JVM, "-cp", f"{fetch_kafka()}/*", java_class, *arguments],
        input=data.encode(),
        capture_output=True,
        check=True,
    )


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody listens on, the same for a node's whole life.

    They lie below the range from which the kernel takes the ports of outgoing connections: else a
    client that retries a stopped node's port could be handed that very port, and connect to itself.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        if port not in ports:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
                ports.append(port)
    return ports


def connect_admin(bootstrap_servers: str) -> AdminClient:
    """Return an admin client that is quick to find a broker again, and logs nothing."""
    return AdminClient(
        {
            "bootstrap.servers": bootstrap_servers,
            "log_level": 0,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 200,
        }
    )


_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class KafkaBroker:
    """One KRaft node, broker and controller in one process; restarts keep its ports and data.

    Start it from the main thread: the kernel kills it when the thread that started it ends, however
    that happens.

    Args:
        directory: Where its data, settings and log go; one node each.
        settings: Broker settings beyond, or in place of, the usual ones.
        node_id: The node's id.
        ports: The ports of the client's and of the controller's listener; free ones by default.
        voters: The cluster's controllers, ``"1@127.0.0.1:29093,..."``; by default this node alone.
        java_options: Options of the Java machine after, and so over, the usual ones, which are
            for a quick start.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        *,
        node_id: int = 1,
        ports: tuple[int, int] | None = None,
        voters: str | None = None,
        java_options: Sequence[str] = (),
    ) -> None:
        self._directory = directory
        self._java_options = tuple(java_options)
        self._port, controller_port = ports or free_ports(2)
        self._settings = {
            **_KAFKA_SETTINGS,
            "node.id": str(node_id),
            "controller.quorum.voters": voters or f"{node_id}@127.0.0.1:{controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},"
            f"CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "log.dirs": str(directory / "data"),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: AdminClient | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The client listener's address."""
        return f"127.0.0.1:{self._port}"

    @property
    def log_file(self) -> Path:
        """The broker's own log."""
        return self._directory / "broker.log"

    @property
    def pid(self) -> int | None:
        """The process; None if there is none."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the process exists, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def admin(self) -> AdminClient:
        """An admin client of this broker, made when first asked for."""
        if self._admin is None:
            self._admin = connect_admin(self.bootstrap_servers)
        return self._admin

    def start(self, *, wait: bool = True) -> None:
        """Start the node, formatting its storage the first time.

        Args:
            wait: Return when it answers clients; False for a node that must wait for others first.

        Raises:
            ServerMissing: Kafka cannot be had on this machine.
        """
        if self.running:
            return
        jars = fetch_kafka()
        if not (self._directory / "data").is_dir():
            self._format()
        java = [
            "java",
            *_JVM,
            *self._java_options,
            f"-Dlog4j2.configurationFile={_FILES / 'log4j2.properties'}",
            f"-Dkafka.log.file={self.log_file}",
            "-cp",
            f"{jars}/*",
            "kafka.Kafka",
            str(self._directory / "server.properties"),
        ]
        with self._console.open("ab") as console:
            self._process = subprocess.Popen(
                java,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal is for the tests, which then stop the node.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        atexit.register(self.kill)
        if wait:
            wait_until(self._answers, 60.0)

    def stop(self) -> None:
        """Shut the node down cleanly; one that does not manage within 20 s is killed."""
        if self._process is not None:
            self.thaw()
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        self.kill()

    def kill(self) -> None:
        """Kill the node as a power cut would."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            atexit.unregister(self.kill)

    def freeze(self) -> None:
        """Stop the node's clock: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)
        # The signal reaches the threads one by one: until the last has stopped, they answer.
        wait_until(self._is_frozen)

    def thaw(self) -> None:
        """Let a frozen node go on."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop the node if it runs, and start it again: same ports, same data."""
        self.stop()
        self.start()

    def create_topic(
        self, name: str, partitions: int = 1, *, replicas: int = -1, **config: object
    ) -> None:
        """Create a topic and wait until it has its leaders.

        Args:
            name: The topic.
            partitions: Number of partitions.
            replicas: Number of replicas; -1 is the broker's default.
            config: The topic's settings, with underscores for dots.
        """
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        new = NewTopic(name, partitions, replicas, config=settings)
        self.admin.create_topics([new], operation_timeout=20)[name].result(20)
        self._await_leaders(name, partitions)

    def add_partitions(self, name: str, partitions: int) -> None:
        """Let a topic grow, and wait until it has its new leaders.

        Args:
            name: The topic.
            partitions: How many it has then.
        """
        more = NewPartitions(name, partitions)
        self.admin.create_partitions([more], operation_timeout=20)[name].result(20)
        self._await_leaders(name, partitions)

    def _await_leaders(self, name: str, partitions: int) -> None:
        def led() -> bool:
            topic = self.admin.list_topics(name, timeout=10).topics[name]
            leaders = [partition.leader for partition in topic.partitions.values()]
            return len(leaders) == partitions and all(leader >= 0 for leader in leaders)

        wait_until(led, 20.0)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until it is gone."""
        self.admin.delete_topics([name], operation_timeout=20)[name].result(20)
        wait_until(lambda: name not in self.admin.list_topics(timeout=10).topics, 20.0)

    def check_running(self) -> None:
        """Check that a node that was started did not end by itself.

        Raises:
            RuntimeError: It did; with the end of its log.
        """
        if not self.running:
            raise RuntimeError(f"the Kafka broker did not start:\n{self._tail()}")

    @property
    def _console(self) -> Path:
        return self._directory / "console.txt"

    def _format(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        properties = self._directory / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._settings.items()))
        run_tool("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties))

    def _answers(self) -> bool:
        # An open port is too early a sign: metadata must name the node.
        self.check_running()
        with contextlib.suppress(KafkaException):
            return bool(self.admin.list_topics(timeout=1).brokers)
        return False

    def _is_frozen(self) -> bool:
        threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
        # A thread may end before its turn comes.
        with contextlib.suppress(FileNotFoundError):
            # The state follows the name, which is in parentheses.
            return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)
        return False

    def _tail(self) -> str:
        texts = [path.read_text() for path in (self._console, self.log_file) if path.exists()]
        return "\n".join(text[-3000:] for text in texts)

    def _signal(self, number: signal.Signals) -> None:
        # To the whole group; it is gone if the node has ended by itself.
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class KafkaCluster:
    """Three KRaft nodes, each broker and controller; topics and groups have a replica on each.

    Start it from the main thread, as a `KafkaBroker`.

    Args:
        directory: Where the nodes' folders go.
    """

    def __init__(self, directory: Path) -> None:
        ids = (1, 2, 3)
        ports = free_ports(2 * len(ids))
        listeners = list(zip(ports[::2], ports[1::2], strict=True))
        voters = ",".join(
            f"{node_id}@127.0.0.1:{controller}"
            for node_id, (_, controller) in zip(ids, listeners, strict=True)
        )
        #: The nodes, by id.
        self.brokers = {
            node_id: KafkaBroker(
                directory / str(node_id),
                _KAFKA_CLUSTER_SETTINGS,
                node_id=node_id,
                ports=pair,
                voters=voters,
            )
            for node_id, pair in zip(ids, listeners, strict=True)
        }
        self.admin = connect_admin(self.bootstrap_servers)

    @property
    def bootstrap_servers(self) -> str:
        """The client listeners' addresses."""
        return ",".join(broker.bootstrap_servers for broker in self.brokers.values())

    def start(self) -> None:
        """Start the nodes that do not run, and wait until all are in the cluster.

        Raises:
            ServerMissing: Kafka cannot be had on this machine.
        """
        for broker in self.brokers.values():
            # None of them answers before there is a quorum.
            broker.start(wait=False)
        wait_until(self._is_complete, 60.0)

    def kill(self) -> None:
        """Kill all nodes as a power cut would."""
        # The last ones would wait for a quorum before they end cleanly.
        for broker in self.brokers.values():
            broker.kill()

    def create_topic(
        self, name: str, partitions: int = 1, *, replicas: int = -1, **config: object
    ) -> None:
        """Create a topic and wait until every partition has its leader; see `KafkaBroker`."""
        self.brokers[1].create_topic(name, partitions, replicas=replicas, **config)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until it is gone."""
        self.brokers[1].delete_topic(name)

    def leader(self, topic: str, partition: int = 0) -> KafkaBroker:
        """Return the node that leads a partition.

        Raises:
            TimeoutError: None did within 20 s.
        """

        def led() -> KafkaBroker | None:
            found = self.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition]
            return self.brokers.get(found.leader)

        return wait_until(led, 20.0)

    def await_in_sync(self) -> None:
        """Wait until every replica of every partition is complete."""
        wait_until(self._is_in_sync, 60.0)

    def _is_complete(self) -> bool:
        for broker in self.brokers.values():
            broker.check_running()
        with contextlib.suppress(KafkaException):
            return len(self.admin.list_topics(timeout=1).brokers) == len(self.brokers)
        return False

    def _is_in_sync(self) -> bool:
        with contextlib.suppress(KafkaException):
            topics = self.admin.list_topics(timeout=5).topics.values()
            return all(
                len(partition.isrs) == len(partition.replicas)
                for topic in topics
                for partition in topic.partitions.values()
            )
        return False


@contextlib.contextmanager
def running_cluster() -> Iterator[KafkaCluster]:
    """Run a cluster of three nodes in a temporary folder, which goes away with it."""
    with tempfile.TemporaryDirectory(prefix="sabot-kafka-") as directory:
        cluster = KafkaCluster(Path(directory))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.kill()


@contextlib.contextmanager
def running_broker(
    settings: Mapping[str, str] | None = None,
    *,
    ports: tuple[int, int] | None = None,
    java_options: Sequence[str] = (),
) -> Iterator[KafkaBroker]:
    """Run a broker of its own in a temporary folder, which goes away with it."""
    with tempfile.TemporaryDirectory(prefix="sabot-kafka-") as directory:
        broker = KafkaBroker(Path(directory), settings, ports=ports, java_options=java_options)
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()


def main() -> None:
    """Fetch every server that the tests use; in CI, a server that is missing is an error."""
    try:
        print(f"Kafka: {fetch_kafka()}")
    except ServerMissing as exc:
        print(f"Kafka is missing, tests that need it are skipped: {exc}")
        raise SystemExit(1 if IN_CI else 0) from None


if __name__ == "__main__":
    main()
