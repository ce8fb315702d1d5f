"""Streams over TLS and SASL, and where their secrets are not to be found."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from confluent_kafka.admin import ResourceType

from sabot_ray import AuthenticationFailed, AuthorizationFailed, SinkError, Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.testing import produce
from tests.kafka.reading import read_all
from tests.secure_broker import PLAIN_USERS, SecureBroker, token

#: The longest time in which a refusal must be told, in seconds.
PATIENCE_S = 30
DRIVER = Path(__file__).with_name("secret_driver.py")


@pytest.fixture
def topic(secure_broker: SecureBroker) -> Iterator[str]:
    """A topic with one record, which the client with a certificate may read."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    secure_broker.create_topic(name)
    secure_broker.allow("CN=client", ResourceType.TOPIC, name, "READ", "DESCRIBE")
    produce(secure_broker.bootstrap_servers, name, [b'{"n": 1}'])
    yield name
    secure_broker.delete_topic(name)


def scram(broker: SecureBroker, user: str, password: Any) -> dict[str, Any]:
    return {
        "security_protocol": "SASL_SSL",
        "ssl_ca_location": broker.certificates["ca.pem"],
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": user,
        "sasl_password": password,
    }


def test_stream_over_sasl_ssl_reads_and_commits(
    secure_broker: SecureBroker, topic: str, backend: Backend, ray_session: None, tmp_path: Path
) -> None:
    user = group = f"user-{topic}"
    (tmp_path / "password").write_text("scram-pw\n")
    secure_broker.add_scram_user(user, "scram-pw")
    secure_broker.allow(user, ResourceType.TOPIC, topic, "READ", "DESCRIBE")
    secure_broker.allow(user, ResourceType.GROUP, group, "READ")
    stream = Stream.from_kafka(
        secure_broker.address("SCRAM"),
        topic,
        group,
        backend=backend,
        end="latest",
        **scram(secure_broker, user, f"file:{tmp_path}/password"),
    )

    (batch,) = stream

    assert batch.equals(pa.record_batch({"n": pa.array([1], pa.int64())}))
    assert stream.count() == 0


def test_stream_that_may_not_read_is_told_so(
    secure_broker: SecureBroker, topic: str, backend: Backend, ray_session: None
) -> None:
    user = f"user-{topic}"
    secure_broker.add_scram_user(user, "scram-pw")
    secure_broker.allow(user, ResourceType.TOPIC, topic, "DESCRIBE")
    stream = Stream.from_kafka(
        secure_broker.address("SCRAM"),
        topic,
        backend=backend,
        schema={"n": "int64"},
        end="latest",
        **scram(secure_broker, user, lambda: "scram-pw"),
    )

    with pytest.raises(AuthorizationFailed, match=f"topic '{topic}' partition 0.*READ the topic"):
        stream.collect()


@pytest.fixture
def target(secure_broker: SecureBroker) -> Iterator[str]:
    """An empty topic, of which nobody may do anything yet."""
    name = f"target-{uuid.uuid4().hex[:12]}"
    secure_broker.create_topic(name)
    yield name
    secure_broker.delete_topic(name)


@pytest.mark.parametrize("may_write_elsewhere", [True, False])
def test_output_that_may_not_write_is_told_so_and_loses_nothing(
    secure_broker: SecureBroker,
    topic: str,
    target: str,
    backend: Backend,
    ray_session: None,
    may_write_elsewhere: bool,
) -> None:
    user = f"user-{target}"
    secure_broker.add_scram_user(user, "planted-pw")
    secure_broker.allow(user, ResourceType.TOPIC, target, "DESCRIBE")
    if may_write_elsewhere:
        secure_broker.allow(user, ResourceType.TOPIC, f"other-{target}", "WRITE")
    stream = Stream.from_kafka(
        secure_broker.bootstrap_servers, topic, target, backend=backend, end="latest"
    )

    def write() -> None:
        stream.to_kafka(
            secure_broker.address("SCRAM"),
            target,
            use_cpp=backend == "native",
            **scram(secure_broker, user, lambda: "planted-pw"),
        )

    began = time.monotonic()
    with pytest.raises(SinkError, match="ACL that lets this user WRITE to the topic") as raised:
        write()
    assert time.monotonic() - began < PATIENCE_S
    assert "planted" not in str(raised.value)

    secure_broker.allow(user, ResourceType.TOPIC, target, "WRITE")
    write()
    assert [record.value for record in read_all(secure_broker, target)] == [b'{"n":1}']


def test_output_in_transactions_is_told_which_acl_is_missing(
    secure_broker: SecureBroker, topic: str, target: str, ray_session: None
) -> None:
    user = f"user-{target}"
    secure_broker.add_scram_user(user, "planted-pw")
    secure_broker.allow(user, ResourceType.TOPIC, target, "DESCRIBE", "WRITE")
    stream = Stream.from_kafka(
        secure_broker.bootstrap_servers, topic, target, backend="native", end="latest"
    )

    def write() -> None:
        stream.to_kafka(
            secure_broker.address("SCRAM"),
            target,
            delivery="exactly_once",
            **scram(secure_broker, user, lambda: "planted-pw"),
        )

    kinds = ResourceType
    for missing, kind, name, operations in (
        ("WRITE and DESCRIBE the tr", kinds.TRANSACTIONAL_ID, f"{target}.0", ("WRITE", "DESCRIBE")),
        ("READ the group", kinds.GROUP, target, ("READ",)),
        # It commits the offsets, too.
        (f"{topic}.* DESCRIBE and READ the topic", kinds.TOPIC, topic, ("READ", "DESCRIBE")),
    ):
        began = time.monotonic()
        with pytest.raises(SinkError, match=missing) as raised:
            write()
        assert time.monotonic() - began < PATIENCE_S
        assert "planted" not in str(raised.value)
        assert read_all(secure_broker, target) == []
        secure_broker.allow(user, kind, name, *operations)
    write()
    assert [record.value for record in read_all(secure_broker, target)] == [b'{"n":1}']


@pytest.mark.parametrize("names_topic", [True, False], ids=["one-topic", "topic-of-each-row"])
@pytest.mark.parametrize("bad", ["password", "authority"])
def test_output_that_is_refused_names_the_cause(
    secure_broker: SecureBroker,
    topic: str,
    backend: Backend,
    ray_session: None,
    bad: str,
    names_topic: bool,
) -> None:
    user = f"user-{topic}"
    secure_broker.add_scram_user(user, "scram-pw")
    settings = scram(secure_broker, user, lambda: "planted-pw")
    reason = "invalid credentials with SASL mechanism SCRAM-SHA-512"
    if bad == "authority":
        settings["ssl_ca_location"] = secure_broker.certificates["other-ca.pem"]
        reason = "self-signed certificate in certificate chain"
    stream = Stream.from_kafka(
        secure_broker.bootstrap_servers, topic, f"group-{uuid.uuid4()}", backend=backend
    )

    began = time.monotonic()
    with pytest.raises(AuthenticationFailed, match=reason) as raised:
        stream.to_kafka(
            secure_broker.address("SCRAM"),
            topic if names_topic else pc.if_else(pc.field("n") > 0, topic, topic),
            use_cpp=backend == "native",
            **settings,
        )
    assert time.monotonic() - began < PATIENCE_S
    assert "planted" not in str(raised.value)


class Planted:
    """Secrets in files, and what a driver is to do with them."""

    def __init__(self, broker: SecureBroker, topic: str, target: str, directory: Path) -> None:
        self._broker, self._topic, self._target = broker, topic, target
        self._directory = directory
        #: Name of a channel -> the bytes that must not be found.
        self.secrets: dict[str, bytes] = {}
        self.channels: list[dict[str, Any]] = []
        self.environment: dict[str, str] = {}

    def _file(self, name: str, text: str) -> str:
        path = self._directory / name
        path.write_text(text)
        return str(path)

    def _add(
        self, name: str, listener: str, ray: bool, settings: dict[str, Any], *, target: str = ""
    ) -> None:
        self.channels.append(
            {
                "name": name,
                "address": self._broker.address(listener),
                "ray": ray,
                "target": target,
                "settings": settings,
            }
        )

    def password(
        self, name: str, way: str, *, ray: bool = True, right: bool = True, writes: bool = False
    ) -> None:
        """Plant a password of SCRAM: as ``"file"``, ``"env"``, ``"function"`` or ``"text"``.

        It is for the target alone if it ``writes``.
        """
        user, secret = f"{name}-{self._topic}", f"planted-{uuid.uuid4().hex}"
        self._broker.add_scram_user(user, secret if right else "another")
        self._broker.allow(user, ResourceType.TOPIC, self._topic, "READ", "DESCRIBE")
        self._broker.allow(user, ResourceType.TOPIC, self._target, "WRITE")
        self.secrets[name] = secret.encode()
        path = self._file(name, secret)
        self.environment |= {f"PLANTED_{name}": secret} if way == "env" else {}
        given = {"file": f"file:{path}", "env": f"env:PLANTED_{name}"}.get(way, [way, path])
        target = self._target if writes else ""
        self._add(name, "SCRAM", ray, scram(self._broker, user, given), target=target)

    def plain(self, name: str) -> None:
        """Plant a password of PLAIN, which the client sends as it is."""
        self._broker.allow("alice", ResourceType.TOPIC, self._topic, "READ", "DESCRIBE")
        self.secrets[name] = PLAIN_USERS["alice"].encode()
        path = self._file(name, PLAIN_USERS["alice"])
        settings = scram(self._broker, "alice", f"file:{path}")
        self._add(name, "SASL", True, {**settings, "sasl_mechanism": "PLAIN"})

    def misspelt(self, name: str) -> None:
        """Plant a password under a name that no setting has."""
        self.password(name, "text")
        settings = self.channels[-1]["settings"]
        settings["sasl_pasword"] = settings.pop("sasl_password")

    def token(self, name: str, way: str, *, right: bool = True) -> None:
        """Plant a bearer token."""
        text = token(f"{name}-{self._topic}", lives_s=3000)
        if not right:
            # The client must not see what is wrong with it: only the broker reads the header.
            text = f"x{text}"
        self._broker.allow(
            f"{name}-{self._topic}", ResourceType.TOPIC, self._topic, "READ", "DESCRIBE"
        )
        # Its beginning: a log line may cut the rest off.
        self.secrets[name] = text.split(".")[1][:40].encode()
        path = self._file(name, text)
        given = f"file:{path}" if way == "file" else [way, path]
        settings = {
            "security_protocol": "SASL_SSL",
            "ssl_ca_location": self._broker.certificates["ca.pem"],
            "sasl_mechanism": "OAUTHBEARER",
            "sasl_oauthbearer_token": given,
        }
        self._add(name, "SASL", True, settings)

    def key(self, name: str, way: str, *, ray: bool = True, file: str = "client.key") -> None:
        """Plant the text of a client's key, and its password if it has one."""
        certificates = self._broker.certificates
        path = certificates[file]
        self.secrets[name] = certificates.text(file).splitlines()[5].encode()
        settings: dict[str, Any] = {
            "security_protocol": "SSL",
            "ssl_ca_location": certificates["ca.pem"],
            "ssl_certificate_location": certificates["client.pem"],
            "ssl_key_pem": f"file:{path}" if way == "file" else [way, path],
        }
        if file == "locked.key":
            settings["ssl_key_password"] = f"file:{self._file(name, 'locked-pw')}"
            self.secrets[f"{name}_password"] = b"locked-pw"
        self._add(name, "MTLS", ray, settings)


def descendants(pid: int) -> set[int]:
    """Return a process and all that it started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def process_text(pid: int, what: str) -> bytes:
    """Return a process's arguments or environment; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def shared_memory(family: set[int]) -> bytes:
    """Return what the processes share through memory: Ray's object store."""
    for pid in family:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            # The file has no name any more; the descriptor still leads to it.
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()).startswith("/dev/shm/plasma"):
                    return descriptor.read_bytes()
    return b""


#: Where a secret could get to -> part of the names of such places.
CHANNELS = {
    "the driver's output": ("found/stdout.txt", "found/stderr.txt"),
    "representations": (".shown.txt",),
    "exceptions with their tracebacks": (".error.txt",),
    "pickled exceptions": (".error.pickle",),
    "pickled streams": (".stream.pickle",),
    "listings of actors, workers, jobs and nodes": ("found/state.txt",),
    "the cluster's key-value store": ("found/store.pickle",),
    "the tasks' timeline": ("found/timeline.txt",),
    "logs of the readers": ("/worker-",),
    "Ray's own logs": ("/raylet.", "/gcs_server.", "/python-core-"),
    "spilled objects": ("spill",),
    "the object store's memory": ("object store",),
    "arguments of processes": ("arguments of",),
    "environments of processes": ("environment of",),
}


@pytest.mark.timeout(300)
def test_planted_secrets_are_found_nowhere(
    secure_broker: SecureBroker,
    topic: str,
    target: str,
    backend: Backend,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    planted = Planted(secure_broker, topic, target, tmp_path)
    planted.password("password_file", "file")
    planted.password("password_function", "function")
    planted.password("password_env", "env")
    planted.plain("password_plain")
    planted.password("password_text_refused", "text")
    planted.password("password_text_standalone", "text", ray=False)
    planted.password("password_wrong", "file", right=False)
    planted.misspelt("password_misspelt")
    planted.password("password_writes", "file", writes=True)
    planted.password("password_writes_wrong", "function", right=False, writes=True)
    planted.token("token_file", "file")
    planted.token("token_function", "function")
    planted.token("token_wrong", "function", right=False)
    planted.key("key_file", "file")
    planted.key("key_function", "function")
    planted.key("key_text_standalone", "text", ray=False)
    planted.key("key_locked", "file", file="locked.key")
    # Everything that any process of Ray's has to say.
    (tmp_path / "sitecustomize.py").write_text("import logging; logging.basicConfig(level=10)\n")
    found = tmp_path / "found"
    found.mkdir()

    # The tests' own directories are too long for Ray's sockets.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray_directory:
        orders = {
            "backend": backend,
            "topic": topic,
            "open_address": secure_broker.bootstrap_servers,
            "found": str(found),
            "ray": ray_directory,
            "channels": planted.channels,
        }
        (tmp_path / "orders.json").write_text(json.dumps(orders))
        with (found / "stderr.txt").open("wb") as stderr:
            driver = subprocess.Popen(
                [sys.executable, str(DRIVER), str(tmp_path / "orders.json")],
                env={**environment, **planted.environment, "PYTHONPATH": str(tmp_path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        try:
            assert driver.stdin is not None
            assert driver.stdout is not None
            lines = []
            for line in driver.stdout:
                lines.append(line)
                if line == b"ready\n":
                    break
            (found / "stdout.txt").write_bytes(b"".join(lines))
            assert lines[-1:] == [b"ready\n"], (found / "stderr.txt").read_text()[-3000:]
            family = descendants(driver.pid)
            places = {
                str(path): path.read_bytes()
                for root in (Path(ray_directory), found)
                for path in root.rglob("*")
                if path.is_file()
            }
            places["object store"] = shared_memory(family)
            for pid in family:
                places[f"arguments of {pid}"] = process_text(pid, "cmdline")
                # That is where the user has put it.
                places[f"environment of {pid}"] = process_text(pid, "environ").replace(
                    planted.secrets["password_env"], b""
                )
            driver.stdin.write(b"\n")
        finally:
            driver.communicate(timeout=60)

    outcomes = json.loads((found / "outcomes.txt").read_text())
    assert outcomes.keys() == {channel["name"] for channel in planted.channels}
    assert outcomes == {
        **dict.fromkeys(outcomes, "read"),
        "password_text_refused": "ConfigError",
        "password_wrong": "AuthenticationFailed",
        "password_misspelt": "ConfigError",
        "password_writes": "written",
        "password_writes_wrong": "AuthenticationFailed",
        "token_wrong": "AuthenticationFailed",
    }
    # All kinds of places were looked at, and there was something to see.
    for channel, names in CHANNELS.items():
        assert any(
            text for place, text in places.items() if any(name in place for name in names)
        ), channel
    assert sum(b"ray::Reader" in text for text in places.values()) >= 8
    assert any(b"ray::WritingReader" in text for text in places.values())
    connection = {"native": b"SASL", "aiokafka": b"Request to localhost"}[backend]
    assert any("worker-" in place and connection in text for place, text in places.items())
    leaks = {
        (name, place)
        for name, secret in planted.secrets.items()
        for place, text in places.items()
        if secret in text
    }
    assert not leaks, leaks
