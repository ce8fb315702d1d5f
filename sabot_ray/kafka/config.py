"""How to reach the brokers: Kafka's own settings, checked before any connection.

The only translator to librdkafka's and aiokafka's settings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sabot_ray.errors import ConfigError

Value = str | int | bool


@dataclass(frozen=True)
class _Setting:
    """One setting that a user may give.

    Attributes:
        kind: The type of its value.
        librdkafka: Its name there; None where sabot_ray itself acts on it.
        aiokafka: Its name there; None where aiokafka has nothing like it.
        choices: The values it takes, if they are few.
        minimum: Its lowest number.
    """

    kind: type
    librdkafka: str | None
    aiokafka: str | None = None
    choices: tuple[str, ...] = ()
    minimum: float = 0


def _same(name: str, kind: type = int, aiokafka: str | None = None, minimum: float = 0) -> _Setting:
    return _Setting(kind, name, aiokafka, (), minimum)


#: Kafka's name -> what it is. Aliases stand in `_ALIASES`.
_SETTINGS: Final[dict[str, _Setting]] = {
    "client.id": _same("client.id", str, "client_id"),
    "client.rack": _same("client.rack", str),
    "client.dns.lookup": _Setting(
        str,
        "client.dns.lookup",
        None,
        ("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"),
    ),
    "broker.address.family": _Setting(str, "broker.address.family", None, ("any", "v4", "v6")),
    "broker.address.ttl": _same("broker.address.ttl"),
    "fetch.min.bytes": _same("fetch.min.bytes", int, "fetch_min_bytes", 1),
    "fetch.max.wait.ms": _same("fetch.wait.max.ms", int, "fetch_max_wait_ms"),
    "fetch.max.bytes": _same("fetch.max.bytes", int, "fetch_max_bytes", 1),
    "max.partition.fetch.bytes": _same(
        "max.partition.fetch.bytes", int, "max_partition_fetch_bytes", 1
    ),
    "fetch.error.backoff.ms": _same("fetch.error.backoff.ms"),
    "fetch.queue.backoff.ms": _same("fetch.queue.backoff.ms"),
    "queued.min.messages": _same("queued.min.messages", int, None, 1),
    "queued.max.messages.kbytes": _same("queued.max.messages.kbytes", int, None, 1),
    "receive.message.max.bytes": _same("receive.message.max.bytes", int, None, 1000),
    "check.crcs": _same("check.crcs", bool, "check_crcs"),
    "isolation.level": _Setting(
        str, "isolation.level", "isolation_level", ("read_committed", "read_uncommitted")
    ),
    "request.timeout.ms": _same("socket.timeout.ms", int, "request_timeout_ms", 10),
    "socket.connection.setup.timeout.ms": _same(
        "socket.connection.setup.timeout.ms", int, None, 1000
    ),
    "socket.keepalive.enable": _same("socket.keepalive.enable", bool),
    "socket.nagle.disable": _same("socket.nagle.disable", bool),
    "socket.receive.buffer.bytes": _same("socket.receive.buffer.bytes"),
    "socket.send.buffer.bytes": _same("socket.send.buffer.bytes"),
    "socket.max.fails": _same("socket.max.fails"),
    "connections.max.idle.ms": _same("connections.max.idle.ms", int, "connections_max_idle_ms"),
    "metadata.max.age.ms": _same("metadata.max.age.ms", int, "metadata_max_age_ms", 1),
    "topic.metadata.refresh.interval.ms": _same(
        "topic.metadata.refresh.interval.ms", int, None, -1
    ),
    "reconnect.backoff.ms": _same("reconnect.backoff.ms"),
    "reconnect.backoff.max.ms": _same("reconnect.backoff.max.ms"),
    "retry.backoff.ms": _same("retry.backoff.ms", int, "retry_backoff_ms", 1),
    "retry.backoff.max.ms": _same("retry.backoff.max.ms", int, None, 1),
    "session.timeout.ms": _same("session.timeout.ms", int, "session_timeout_ms", 1),
    "heartbeat.interval.ms": _same("heartbeat.interval.ms", int, "heartbeat_interval_ms", 1),
    "max.poll.interval.ms": _same("max.poll.interval.ms", int, "max_poll_interval_ms", 1),
    "debug": _same("debug", str),
    "log_level": _same("log_level"),
    # Acted on by sabot_ray; the clients never see them.
    "auto.offset.reset": _Setting(str, None, None, ("earliest", "latest", "none")),
    "enable.auto.commit": _Setting(bool, None),
    "auto.commit.interval.ms": _Setting(int, None, None, (), 1),
    "max.poll.records": _Setting(int, None, None, (), 1),
}

_ALIASES: Final[dict[str, str]] = {
    "fetch.wait.max.ms": "fetch.max.wait.ms",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "socket.timeout.ms": "request.timeout.ms",
    "log.level": "log_level",
}

#: Settings that sabot_ray manages -> what to use instead.
_MANAGED: Final[dict[str, str]] = {
    "bootstrap.servers": "pass bootstrap_servers",
    "metadata.broker.list": "pass bootstrap_servers",
    "group.id": "pass group_id",
    "group.instance.id": "pass stream_id",
    "group.protocol": "sabot_ray joins the group as its single static member",
    "group.protocol.type": "sabot_ray joins the group as its single static member",
    "group.remote.assignor": "sabot_ray joins the group as its single static member",
    "partition.assignment.strategy": "sabot_ray joins the group as its single static member",
    "enable.auto.offset.store": "pass enable_auto_commit; offsets follow acknowledgement",
    "offset.store.method": "pass enable_auto_commit; offsets follow acknowledgement",
    "enable.partition.eof": "pass end= for a bounded read",
    "allow.auto.create.topics": "create the topic first",
    "key.deserializer": "pass key_codec",
    "value.deserializer": "pass codec_type",
    "consume.callback.max.messages": "pass batch_size",
    "enabled_events": "sabot_ray reads the client's events itself",
    "log.queue": "sabot_ray reads the client's log itself",
    "statistics.interval.ms": "ask StreamRun.status()",
    "api.version.request": "every supported broker answers it",
    "test.mock.num.brokers": "use sabot_ray.testing.EmbeddedKafka",
}

#: Names that begin so are known, but belong to security, which is not available yet.
_SECURITY_PREFIXES: Final = ("ssl.", "sasl.", "security.", "enable.ssl.", "enable.sasl.", "https.")

#: What the readers and the driver's clients start from. Each has its reason:
_LIBRDKAFKA_DEFAULTS: Final[dict[str, str]] = {
    # Never jump to another offset silently.
    "auto.offset.reset": "error",
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "allow.auto.create.topics": "false",
    # The event carries the fetch offset, past control records: the only sure sign of the end.
    "enable.partition.eof": "true",
    "isolation.level": "read_committed",
    "check.crcs": "true",
    # A black hole is noticed after 10 s instead of 60 s.
    "socket.timeout.ms": "10000",
    "socket.keepalive.enable": "true",
    # The default of 1 s reads a compressed backlog at a fifth of its speed.
    "fetch.queue.backoff.ms": "2",
    "reconnect.backoff.max.ms": "2000",
    "client.id": "sabot_ray",
}

_AIOKAFKA_DEFAULTS: Final[dict[str, Any]] = {
    "auto_offset_reset": "none",
    "enable_auto_commit": False,
    "isolation_level": "read_committed",
    "check_crcs": True,
    "request_timeout_ms": 10_000,
    "client_id": "sabot_ray",
}

_MAXIMUM: Final = 2**31 - 1
_SERVER = re.compile(r"(?:[A-Za-z_]+://)?(?:\[[0-9A-Fa-f:.%]+\]|[^\s:,/\[\]]+):(\d{1,5})")


def _kafka_name(name: str) -> str:
    dotted = name if name in _SETTINGS else name.replace("_", ".")
    return _ALIASES.get(dotted, dotted)


def _check_value(name: str, given: str, value: Any) -> Value:
    setting = _SETTINGS[name]
    if setting.kind is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if setting.kind is int and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        value = int(value)
    right = isinstance(value, setting.kind) and (setting.kind is bool) == isinstance(value, bool)
    if not right or not isinstance(value, str | int):
        raise ConfigError(
            f"setting '{given}': expected {setting.kind.__name__}, found {type(value).__name__}"
        )
    if setting.choices and value not in setting.choices:
        raise ConfigError(
            f"setting '{given}': '{value}' is not one of {', '.join(map(repr, setting.choices))}"
        )
    if isinstance(value, int) and value < setting.minimum:
        raise ConfigError(f"setting '{given}': {value} is below the minimum {setting.minimum:g}")
    if isinstance(value, int) and value > _MAXIMUM:
        # librdkafka would drop the upper bits.
        raise ConfigError(f"setting '{given}': {value} is above the maximum {_MAXIMUM}")
    return value


def check_setting_names(names: Iterable[str], options: Iterable[str]) -> None:
    """Refuse names that are no settings a user may give.

    Args:
        names: The names.
        options: What else may have been meant.

    Raises:
        ConfigError: A name is unknown (the near one is told) or managed by sabot_ray.
    """
    for name in names:
        _check_name(name, options)


def _check_name(given: str, options: Iterable[str] = ()) -> str:
    name = _kafka_name(given)
    if name in _SETTINGS:
        return name
    if name in _MANAGED:
        raise ConfigError(f"setting '{given}' is managed by sabot_ray: {_MANAGED[name]}")
    if name.startswith(_SECURITY_PREFIXES):
        raise ConfigError(f"setting '{given}': TLS and SASL are not available yet")
    raise ConfigError(f"unknown option or Kafka setting '{given}'{_hint(given, options)}")


def _hint(given: str, options: Iterable[str]) -> str:
    # An option replaces the setting that differs by the spelling only: group_id, group.id.
    known = {_letters(name): name for name in (*_SETTINGS, *_ALIASES, *_MANAGED, *options)}
    # Below, "consumer_timeout_ms" would be taken for "socket.timeout.ms".
    near = difflib.get_close_matches(_letters(given), known, n=1, cutoff=0.76)
    if not near:
        return ""
    name = known[near[0]]
    managed = f" It is managed by sabot_ray: {_MANAGED[name]}" if name in _MANAGED else ""
    return f"; did you mean '{name}'?{managed}"


def _letters(name: str) -> str:
    return re.sub(r"[._]", "", name).lower()


def _check_servers(servers: Any) -> str:
    if isinstance(servers, Sequence) and not isinstance(servers, str):
        servers = ",".join(str(server) for server in servers)
    if not isinstance(servers, str) or not servers.strip():
        raise ConfigError("bootstrap_servers: expected 'host:port', or several with commas between")
    parts = [part.strip() for part in servers.split(",")]
    for part in parts:
        match = _SERVER.fullmatch(part)
        if not match or not 0 < int(match[1]) < 65536:
            raise ConfigError(f"bootstrap_servers: '{part}' is not 'host:port'")
    return ",".join(parts)


@dataclass(frozen=True, init=False)
class KafkaConfig:
    """How to reach the brokers, in Kafka's own names.

    Names may be spelled ``fetch.min.bytes`` or ``fetch_min_bytes``. Everything is checked here,
    before any connection.

    Args:
        bootstrap_servers: ``"host:port"``, several with commas between, or a list of them.
        settings: Settings of a Kafka consumer, by name.

    Raises:
        ConfigError: A name is unknown (the nearest known one is told) or managed by sabot_ray (what
            replaces it is told), or a value has the wrong type or is out of range.
    """

    bootstrap_servers: str
    settings: Mapping[str, Value]

    def __init__(self, bootstrap_servers: str | Sequence[str], **settings: Value) -> None:
        checked: dict[str, Value] = {}
        for given, value in settings.items():
            name = _check_name(given)
            if name in checked:
                raise ConfigError(f"setting '{name}' is given twice, the second time as '{given}'")
            checked[name] = _check_value(name, given, value)
        object.__setattr__(self, "bootstrap_servers", _check_servers(bootstrap_servers))
        object.__setattr__(self, "settings", checked)

    def with_settings(self, **settings: Value) -> KafkaConfig:
        """Return a copy with these settings added; one that is there already is replaced."""
        added = KafkaConfig(self.bootstrap_servers, **settings)
        return KafkaConfig(self.bootstrap_servers, **{**self.settings, **added.settings})

    def get(self, name: str, default: Value) -> Any:
        """Return a setting by Kafka's name, or the default where it was not given."""
        return self.settings.get(name, default)

    def librdkafka_settings(self) -> dict[str, str]:
        """Return librdkafka's settings for a consumer, without group and prefetch limits."""
        given = {
            setting.librdkafka: str(value).lower() if isinstance(value, bool) else str(value)
            for setting, value in self._with_descriptions()
            if setting.librdkafka
        }
        return {"bootstrap.servers": self.bootstrap_servers, **_LIBRDKAFKA_DEFAULTS, **given}

    def aiokafka_settings(self) -> dict[str, Any]:
        """Return the arguments of an ``AIOKafkaConsumer``, without topics and group."""
        given = {
            setting.aiokafka: value
            for setting, value in self._with_descriptions()
            if setting.aiokafka
        }
        servers = self.bootstrap_servers.split(",")
        return {"bootstrap_servers": servers, **_AIOKAFKA_DEFAULTS, **given}

    def librdkafka_only(self) -> list[str]:
        """Return the given settings that aiokafka has nothing like."""
        return [
            name
            for name in self.settings
            if _SETTINGS[name].librdkafka and not _SETTINGS[name].aiokafka
        ]

    def _with_descriptions(self) -> Iterator[tuple[_Setting, Value]]:
        return ((_SETTINGS[name], value) for name, value in self.settings.items())
