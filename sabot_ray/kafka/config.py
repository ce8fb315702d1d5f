"""How to reach the brokers: Kafka's own settings, checked before any connection.

The only translator to librdkafka's and aiokafka's settings.
"""

from __future__ import annotations

import difflib
import functools
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sabot_ray.errors import ConfigError
from sabot_ray.kafka.security import (
    MECHANISMS,
    PROTOCOLS,
    UNSAFE,
    Token,
    certificate_error,
    check_security,
    reveal,
    reveal_token,
    ssl_context,
)
from sabot_ray.types import Secret

#: What reads, and what writes: each has settings that the other knows nothing of.
Role = Literal["consumer", "producer"]

Value = str | int | bool | Secret | Callable[[], Any] | Sequence[str]


@dataclass(frozen=True)
class _Setting:
    """One setting that a user may give.

    Attributes:
        kind: The type of its value.
        librdkafka: Its name there; None where sabot_ray itself acts on it.
        aiokafka: Its name there; None where aiokafka has nothing like it.
        choices: The values it takes, if they are few.
        minimum: Its lowest number.
        may_refer: Whether a text may name the place where the value is to be found.
        is_security: Whether a client that lacks it must not run without it.
        role: Which clients have it; None: all.
    """

    kind: type
    librdkafka: str | None
    aiokafka: str | None = None
    choices: tuple[str, ...] = ()
    minimum: float = 0
    may_refer: bool = False
    is_security: bool = False
    role: Role | None = None


def _same(
    name: str,
    kind: type = int,
    aiokafka: str | None = None,
    minimum: float = 0,
    choices: tuple[str, ...] = (),
    role: Role | None = None,
) -> _Setting:
    return _Setting(kind, name, aiokafka, choices, minimum, role=role)


_of_consumers = functools.partial(_same, role="consumer")
_of_producers = functools.partial(_same, role="producer")


def _security(
    name: str,
    aiokafka: str | None = None,
    *,
    kind: type = str,
    choices: tuple[str, ...] = (),
    may_refer: bool = False,
) -> _Setting:
    return _Setting(kind, name, aiokafka, choices, 0, may_refer or kind is Secret, True)


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
    "fetch.min.bytes": _of_consumers("fetch.min.bytes", int, "fetch_min_bytes", 1),
    "fetch.max.wait.ms": _of_consumers("fetch.wait.max.ms", int, "fetch_max_wait_ms"),
    "fetch.max.bytes": _of_consumers("fetch.max.bytes", int, "fetch_max_bytes", 1),
    "max.partition.fetch.bytes": _of_consumers(
        "max.partition.fetch.bytes", int, "max_partition_fetch_bytes", 1
    ),
    "fetch.error.backoff.ms": _of_consumers("fetch.error.backoff.ms"),
    "fetch.queue.backoff.ms": _of_consumers("fetch.queue.backoff.ms"),
    "queued.min.messages": _of_consumers("queued.min.messages", int, None, 1),
    "queued.max.messages.kbytes": _of_consumers("queued.max.messages.kbytes", int, None, 1),
    "receive.message.max.bytes": _same("receive.message.max.bytes", int, None, 1000),
    "check.crcs": _of_consumers("check.crcs", bool, "check_crcs"),
    "isolation.level": _of_consumers(
        "isolation.level",
        str,
        "isolation_level",
        choices=("read_committed", "read_uncommitted"),
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
    "session.timeout.ms": _of_consumers("session.timeout.ms", int, "session_timeout_ms", 1),
    "heartbeat.interval.ms": _of_consumers(
        "heartbeat.interval.ms", int, "heartbeat_interval_ms", 1
    ),
    "max.poll.interval.ms": _of_consumers("max.poll.interval.ms", int, "max_poll_interval_ms", 1),
    "linger.ms": _of_producers("linger.ms", int, "linger_ms"),
    "batch.size": _of_producers("batch.size", int, "max_batch_size", 1),
    "batch.num.messages": _of_producers("batch.num.messages", int, None, 1),
    "compression.level": _of_producers("compression.level", int, None, -1),
    "delivery.timeout.ms": _of_producers("delivery.timeout.ms", int, None, 1),
    "max.request.size": _of_producers("message.max.bytes", int, "max_request_size", 1000),
    "queue.buffering.max.messages": _of_producers("queue.buffering.max.messages", int, None, 1),
    "queue.buffering.max.kbytes": _of_producers("queue.buffering.max.kbytes", int, None, 1),
    "sticky.partitioning.linger.ms": _of_producers("sticky.partitioning.linger.ms"),
    "debug": _same("debug", str),
    "log_level": _same("log_level"),
    "security.protocol": _security("security.protocol", "security_protocol", choices=PROTOCOLS),
    "ssl.ca.location": _security("ssl.ca.location", "ssl_context"),
    "ssl.ca.pem": _security("ssl.ca.pem", "ssl_context", may_refer=True),
    "ssl.certificate.location": _security("ssl.certificate.location", "ssl_context"),
    "ssl.certificate.pem": _security("ssl.certificate.pem", "ssl_context", may_refer=True),
    "ssl.key.location": _security("ssl.key.location", "ssl_context"),
    "ssl.key.pem": _security("ssl.key.pem", "ssl_context", kind=Secret),
    "ssl.key.password": _security("ssl.key.password", "ssl_context", kind=Secret),
    "ssl.endpoint.identification.algorithm": _security(
        "ssl.endpoint.identification.algorithm", "ssl_context", choices=("https", "none")
    ),
    "enable.ssl.certificate.verification": _security(
        "enable.ssl.certificate.verification", "ssl_context", kind=bool
    ),
    "ssl.keystore.location": _security("ssl.keystore.location"),
    "ssl.keystore.password": _security("ssl.keystore.password", kind=Secret),
    "ssl.crl.location": _security("ssl.crl.location"),
    "ssl.cipher.suites": _security("ssl.cipher.suites"),
    "ssl.curves.list": _security("ssl.curves.list"),
    "ssl.sigalgs.list": _security("ssl.sigalgs.list"),
    "sasl.mechanism": _security("sasl.mechanism", "sasl_mechanism", choices=MECHANISMS),
    "sasl.username": _security("sasl.username", "sasl_plain_username", may_refer=True),
    "sasl.password": _security("sasl.password", "sasl_plain_password", kind=Secret),
    "sasl.oauthbearer.method": _security("sasl.oauthbearer.method", choices=("oidc",)),
    "sasl.oauthbearer.client.id": _security("sasl.oauthbearer.client.id", may_refer=True),
    "sasl.oauthbearer.client.secret": _security("sasl.oauthbearer.client.secret", kind=Secret),
    "sasl.oauthbearer.scope": _security("sasl.oauthbearer.scope"),
    "sasl.oauthbearer.extensions": _security("sasl.oauthbearer.extensions"),
    # Both clients take a function for it, which renews the token.
    "sasl.oauthbearer.token": _Setting(Secret, None, None, (), 0, True),
    **{name: _security(name) for name in UNSAFE},
    # Acted on by sabot_ray; the clients never see them.
    "auto.offset.reset": _Setting(str, None, None, ("earliest", "latest", "none"), role="consumer"),
    "enable.auto.commit": _Setting(bool, None, role="consumer"),
    "auto.commit.interval.ms": _Setting(int, None, None, (), 1, role="consumer"),
    "max.poll.records": _Setting(int, None, None, (), 1, role="consumer"),
    "allow.plaintext.sasl": _Setting(bool, None),
    "allow.unsafe": _Setting(tuple, None),
}

_ALIASES: Final[dict[str, str]] = {
    "fetch.wait.max.ms": "fetch.max.wait.ms",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "socket.timeout.ms": "request.timeout.ms",
    "log.level": "log_level",
    "queue.buffering.max.ms": "linger.ms",
    "message.timeout.ms": "delivery.timeout.ms",
    "message.max.bytes": "max.request.size",
    # aiokafka's.
    "max.batch.size": "batch.size",
    "sasl.mechanisms": "sasl.mechanism",
    # aiokafka's and kafka-python's names.
    "sasl.plain.username": "sasl.username",
    "sasl.plain.password": "sasl.password",
    "ssl.cafile": "ssl.ca.location",
    "ssl.certfile": "ssl.certificate.location",
    "ssl.keyfile": "ssl.key.location",
    "ssl.password": "ssl.key.password",
}

#: What aiokafka has nothing like, and `AiokafkaSink` does itself.
_OURS_WITH_AIOKAFKA: Final = frozenset({"delivery.timeout.ms"})

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
    "acks": "a record counts as written once all in-sync replicas have it",
    "request.required.acks": "a record counts as written once all in-sync replicas have it",
    "enable.idempotence": "records are written once and in order",
    "enable.gapless.guarantee": "every delivery report is checked",
    "max.in.flight.requests.per.connection": "the order of records depends on it",
    "max.in.flight": "the order of records depends on it",
    "retries": "pass delivery_timeout_ms",
    "message.send.max.retries": "pass delivery_timeout_ms",
    "compression.type": "pass compression_type",
    "compression.codec": "pass compression_type",
    "partitioner": "pass partitioner",
    "transactional.id": "pass delivery",
    "key.serializer": "pass key",
    "value.serializer": "pass codec_type",
    "key.deserializer": "pass key_codec",
    "value.deserializer": "pass codec_type",
    "consume.callback.max.messages": "pass batch_size",
    "enabled_events": "sabot_ray reads the client's events itself",
    "log.queue": "sabot_ray reads the client's log itself",
    "statistics.interval.ms": "ask StreamRun.status()",
    "api.version.request": "every supported broker answers it",
    "test.mock.num.brokers": "use sabot_ray.testing.EmbeddedKafka",
    # The Java client's and aiokafka's ways.
    "sasl.jaas.config": "pass sasl_username and sasl_password",
    "sasl.login.callback.handler.class": "pass sasl_oauthbearer_token",
    "sasl.oauth.token.provider": "pass sasl_oauthbearer_token",
    "oauth.cb": "pass sasl_oauthbearer_token",
    "enable.sasl.oauthbearer.unsecure.jwt": "pass sasl_oauthbearer_token",
    "ssl.context": "pass ssl_ca_location and the like",
    "ssl.truststore.location": "pass ssl_ca_location, a file in PEM format",
    "ssl.truststore.certificates": "pass ssl_ca_pem",
    "ssl.keystore.certificate.chain": "pass ssl_certificate_pem",
    "ssl.keystore.key": "pass ssl_key_pem",
}

#: What the readers and the driver's clients start from. Each has its reason:
_LIBRDKAFKA_DEFAULTS: Final[dict[str, str]] = {
    # A black hole is noticed after 10 s instead of 60 s.
    "socket.timeout.ms": "10000",
    "socket.keepalive.enable": "true",
    "reconnect.backoff.max.ms": "2000",
    "client.id": "sabot_ray",
}
_LIBRDKAFKA_DEFAULTS_OF: Final[dict[Role, dict[str, str]]] = {
    "consumer": {
        # Never jump to another offset silently.
        "auto.offset.reset": "error",
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "allow.auto.create.topics": "false",
        # The event carries the fetch offset, past control records: the only sure sign of the end.
        "enable.partition.eof": "true",
        "isolation.level": "read_committed",
        "check.crcs": "true",
        # The default of 1 s reads a compressed backlog at a fifth of its speed.
        "fetch.queue.backoff.ms": "2",
    },
    "producer": {
        # All in-sync replicas have a record before it counts, and have it once.
        "enable.idempotence": "true",
        "acks": "all",
        # As Java's client does.
        "delivery.timeout.ms": "120000",
        "linger.ms": "5",
        # So that new partitions are known before a partitioner that is a function chooses them.
        "topic.metadata.refresh.interval.ms": "30000",
        # How much waits for the brokers before the sender has to.
        "queue.buffering.max.messages": "500000",
        "queue.buffering.max.kbytes": "65536",
    },
}

_AIOKAFKA_DEFAULTS: Final[dict[str, Any]] = {
    "request_timeout_ms": 10_000,
    "client_id": "sabot_ray",
}
_AIOKAFKA_DEFAULTS_OF: Final[dict[Role, dict[str, Any]]] = {
    "consumer": {
        "auto_offset_reset": "none",
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "check_crcs": True,
    },
    "producer": {
        "enable_idempotence": True,
        "acks": "all",
        "linger_ms": 5,
        "metadata_max_age_ms": 30_000,
        # One batch is under way to a broker at a time: it should be worth it.
        "max_batch_size": 1 << 17,
    },
}

_MAXIMUM: Final = 2**31 - 1
_SERVER = re.compile(r"(?:[A-Za-z_]+://)?(?:\[[0-9A-Fa-f:.%]+\]|[^\s:,/\[\]]+):(\d{1,5})")


def _kafka_name(name: str) -> str:
    dotted = name if name in _SETTINGS else name.replace("_", ".")
    return _ALIASES.get(dotted, dotted)


def _check_value(name: str, given: str, value: Any) -> Value:
    setting = _SETTINGS[name]
    if name == "allow.unsafe":
        return _check_unsafe(value)
    if setting.may_refer and (
        isinstance(value, Secret) or callable(value) or Secret.is_reference_text(value)
    ):
        return value if isinstance(value, Secret) else Secret(value)
    if setting.kind is Secret:
        # Its text must not get into a message, whatever is wrong with it.
        if not isinstance(value, str) or not value:
            raise ConfigError(
                f"setting '{given}': expected a non-empty str, 'env:NAME', 'file:PATH' or a "
                f"function, found {type(value).__name__}"
            )
        return Secret(value)
    if setting.choices and isinstance(value, str):
        # Protocols and mechanisms are written in either case.
        value = next((c for c in setting.choices if c.lower() == value.lower()), value)
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


def check_setting_names(names: Iterable[str], role: Role, options: Iterable[str] = ()) -> None:
    """Refuse names that are no settings a user may give.

    Args:
        names: The names.
        role: What the client does.
        options: What else may have been meant.

    Raises:
        ConfigError: A name is unknown (the near one is told), managed by sabot_ray, or one of the
            other role.
    """
    for name in names:
        known = _SETTINGS[_check_name(name, options)]
        if known.role not in (None, role):
            raise ConfigError(
                f"setting '{name}': a {role} has nothing like it, only a {known.role}"
            )


def is_secret(name: str) -> bool:
    """Whether a setting is one whose text must not be shown."""
    setting = _SETTINGS.get(_kafka_name(name))
    return setting is not None and setting.kind is Secret


def _check_unsafe(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else list(value)
    for name in names:
        if not isinstance(name, str) or _kafka_name(name) not in UNSAFE:
            raise ConfigError(
                f"allow_unsafe: {name!r} is not one of {', '.join(map(repr, UNSAFE))}"
            )
    return tuple(sorted(map(_kafka_name, names)))


def _check_name(given: str, options: Iterable[str] = ()) -> str:
    name = _kafka_name(given)
    if name in _SETTINGS:
        return name
    if name in _MANAGED:
        raise ConfigError(f"setting '{given}' is managed by sabot_ray: {_MANAGED[name]}")
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


def _checked(settings: Mapping[str, Any]) -> dict[str, Value]:
    checked: dict[str, Value] = {}
    for given, value in settings.items():
        name = _check_name(given)
        if name in checked:
            raise ConfigError(f"setting '{name}' is given twice, the second time as '{given}'")
        checked[name] = _check_value(name, given, value)
    return checked


@dataclass(frozen=True, init=False)
class KafkaConfig:
    """How to reach the brokers, in Kafka's own names.

    Names may be spelled ``fetch.min.bytes`` or ``fetch_min_bytes``. Everything is checked here,
    before any connection. `docs/security.md` has the settings of TLS and SASL, and says how to give
    secrets.

    Args:
        bootstrap_servers: ``"host:port"``, several with commas between, or a list of them.
        settings: Settings of a Kafka consumer, by name. Secrets are ``"env:NAME"``,
            ``"file:PATH"``, a function that returns them, or, where no Ray takes part, text.

    Raises:
        ConfigError: A name is unknown (the nearest known one is told) or managed by sabot_ray (what
            replaces it is told), a value has the wrong type or is out of range, or security
            settings do not fit together.
    """

    bootstrap_servers: str
    settings: Mapping[str, Value]

    def __init__(self, bootstrap_servers: str | Sequence[str], **settings: Value) -> None:
        self._init(_check_servers(bootstrap_servers), _checked(settings))

    def _init(self, bootstrap_servers: str, settings: dict[str, Value]) -> None:
        allowed = settings.get("allow.unsafe", ())
        assert isinstance(allowed, tuple)
        for name in settings:
            if name in UNSAFE and name not in allowed:
                raise ConfigError(
                    f"setting '{name}' is refused: {UNSAFE[name]}; pass allow_unsafe=['{name}'] "
                    "if whoever chose it may do that on every node"
                )
        check_security(settings)
        object.__setattr__(self, "bootstrap_servers", bootstrap_servers)
        object.__setattr__(self, "settings", settings)

    @classmethod
    def of(
        cls, bootstrap_servers: str | Sequence[str] | KafkaConfig, **settings: Value
    ) -> KafkaConfig:
        """Return a config of servers or of another config, with these settings."""
        if isinstance(bootstrap_servers, KafkaConfig):
            return bootstrap_servers.with_settings(**settings)
        return cls(bootstrap_servers, **settings)

    def with_settings(self, **settings: Value) -> KafkaConfig:
        """Return a copy with these settings added; one that is there already is replaced."""
        changed = KafkaConfig.__new__(KafkaConfig)
        changed._init(self.bootstrap_servers, {**self.settings, **_checked(settings)})
        return changed

    def get(self, name: str, default: Value) -> Any:
        """Return a setting by Kafka's name, or the default where it was not given."""
        return self.settings.get(name, default)

    def check_travels(self) -> None:
        """Refuse what must not be sent to another process.

        Raises:
            ConfigError: A secret is given in clear.
        """
        for name, value in self.settings.items():
            if isinstance(value, Secret) and not value.is_reference:
                raise ConfigError(
                    f"setting '{name}': a secret in clear would travel to the readers through Ray, "
                    "where others can read it; give 'env:NAME', 'file:PATH' or a function that "
                    "returns it, which the readers resolve (docs/security.md)"
                )

    def librdkafka_settings(self, role: Role = "consumer") -> dict[str, str]:
        """Return librdkafka's settings, without a consumer's group and prefetch limits.

        Secrets are resolved: for the client's eyes only. A bearer token is none of the settings:
        see `token`.

        Args:
            role: What the client does.

        Raises:
            ConfigError: A secret cannot be had here.
        """
        given = {}
        for name, setting, value in self._with_descriptions():
            if setting.librdkafka and setting.role in (None, role):
                value = reveal(name, value)
                text = str(value).lower() if isinstance(value, bool) else str(value)
                given[setting.librdkafka] = text
        defaults = _LIBRDKAFKA_DEFAULTS | _LIBRDKAFKA_DEFAULTS_OF[role]
        return {"bootstrap.servers": self.bootstrap_servers, **defaults, **given}

    def aiokafka_settings(self, role: Role = "consumer") -> dict[str, Any]:
        """Return the arguments of aiokafka's client, without topics, group and security.

        Args:
            role: Whether it is an ``AIOKafkaConsumer`` or an ``AIOKafkaProducer``.
        """
        given = {
            setting.aiokafka: value
            for _, setting, value in self._with_descriptions()
            if setting.aiokafka and not setting.is_security and setting.role in (None, role)
        }
        servers = self.bootstrap_servers.split(",")
        defaults = _AIOKAFKA_DEFAULTS | _AIOKAFKA_DEFAULTS_OF[role]
        return {"bootstrap_servers": servers, **defaults, **given}

    def aiokafka_security(self) -> dict[str, Any]:
        """Return aiokafka's arguments about TLS and SASL, but for the bearer token: see `token`.

        Secrets are resolved: for the client's eyes only. Reads files, and may take its time.

        Raises:
            ConfigError: A secret or a file cannot be had here.
        """
        security = {
            setting.aiokafka: reveal(name, value)
            for name, setting, value in self._with_descriptions()
            if setting.is_security and setting.aiokafka not in (None, "ssl_context")
        }
        if security.get("security_protocol", "").endswith("SSL"):
            security["ssl_context"] = self._ssl_context()
        return security

    def certificate_error(self) -> str | None:
        """Try the bootstrap servers' certificates and say what is wrong with the first bad one."""
        context = self._ssl_context()
        for server in self.bootstrap_servers.split(","):
            host, _, port = server.rpartition("://")[2].rpartition(":")
            error = certificate_error(context, host.strip("[]"), int(port))
            if error:
                return error
        return None

    @property
    def has_token(self) -> bool:
        """Whether the clients have to ask for a bearer token: `token`."""
        return "sasl.oauthbearer.token" in self.settings

    def token(self) -> Token:
        """Return a bearer token, had anew.

        Raises:
            ConfigError: It cannot be had here, or does not tell when it expires.
        """
        return reveal_token(self.settings["sasl.oauthbearer.token"])

    def librdkafka_only(self) -> list[str]:
        """Return the given settings that aiokafka has nothing like, nor our use of it."""
        return [
            name
            for name, setting, _ in self._with_descriptions()
            if setting.librdkafka and not setting.aiokafka and name not in _OURS_WITH_AIOKAFKA
        ]

    def check_aiokafka(self) -> None:
        """Refuse what aiokafka must not run without.

        Raises:
            ConfigError: A setting of TLS or SASL is only known to librdkafka.
        """
        for name in self.librdkafka_only():
            if _SETTINGS[name].is_security:
                raise ConfigError(
                    f"setting '{name}': aiokafka has nothing like it; use the native backend"
                )

    def _ssl_context(self) -> ssl.SSLContext:
        return ssl_context(
            {
                name: reveal(name, value)
                for name, setting, value in self._with_descriptions()
                if setting.aiokafka == "ssl_context"
            }
        )

    def _with_descriptions(self) -> Iterator[tuple[str, _Setting, Any]]:
        return ((name, _SETTINGS[name], value) for name, value in self.settings.items())
