"""The options by which every command reaches the brokers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from sabot_ray.cli.settings_file import read_settings
from sabot_ray.cli.terminal import in_background
from sabot_ray.errors import SabotRayError
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig, is_secret
from sabot_ray.kafka.metadata import ClusterClient
from sabot_ray.types import Secret

P = ParamSpec("P")
T = TypeVar("T")

#: Longest time that the shell waits for the names of topics, in seconds.
_COMPLETION_TIMEOUT_S = 2.0


class Connection:
    """Where the brokers are and how to reach them, as the user has said.

    Args:
        bootstrap_servers: ``"host:port"``, several with commas between.
        settings: Kafka's settings by name; a command may take some of them out for itself.
    """

    def __init__(self, bootstrap_servers: str, settings: dict[str, str]) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.settings = settings

    def config(self) -> KafkaConfig:
        """Return the configuration.

        Raises:
            ConfigError: A setting is unknown, or its value cannot be.
        """
        return KafkaConfig(self.bootstrap_servers, **self.settings)

    def ask(
        self,
        question: Callable[[ClusterClient], T],
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> T:
        """Ask the brokers something; Ctrl-C does not wait for their answer.

        Args:
            question: What to do with the client, which is closed afterwards.
            meanwhile: Called over and over; an error of it ends the wait, too.
        """
        config = self.config()

        def connected() -> T:
            client = connect_cluster(config)
            try:
                return question(client)
            finally:
                client.close()

        return in_background(connected, meanwhile=meanwhile)


def connection_options(
    command: Callable[Concatenate[Connection, P], T],
) -> Callable[P, T]:
    """Give a command the options ``-b``, ``-X`` and ``--config``, as its first argument."""

    @click.option(
        "-b",
        "--bootstrap-servers",
        metavar="HOST:PORT[,...]",
        envvar="SABOT_RAY_BOOTSTRAP_SERVERS",
        show_envvar=True,
        help="Where the brokers listen; one of them is enough.",
    )
    @click.option(
        "-X",
        "settings",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_settings,
        help="A setting of Kafka's clients, e.g. -X fetch.max.bytes=1048576. Repeatable. A secret "
        "is given by where it is: -X sasl.password=env:NAME, or file:PATH.",
    )
    @click.option(
        "--config",
        "config_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="SABOT_RAY_CONFIG",
        show_envvar=True,
        help="A file of such settings: Java's .properties, or TOML (.toml). -b and -X win over it.",
    )
    @functools.wraps(command)
    def with_connection(
        bootstrap_servers: str | None,
        settings: dict[str, str],
        config_file: Path | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        connection = _connect(click.get_current_context(), bootstrap_servers, settings, config_file)
        return command(connection, *args, **kwargs)

    return with_connection  # type: ignore[return-value]  # click calls it with keywords  # fmt: skip


def topic_argument(**attributes: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Give a command the argument ``TOPIC``, whose names the shell completes."""
    return click.argument("topic", shell_complete=_complete_topic, **attributes)


def topic_option(help: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Give a command the option ``--topic``, whose names the shell completes."""
    return click.option("--topic", metavar="TOPIC", shell_complete=_complete_topic, help=help)


def _connect(
    ctx: click.Context, servers: str | None, settings: dict[str, str], file: Path | None
) -> Connection:
    from_file = read_settings(file) if file else {}
    named = from_file.pop("bootstrap.servers", None)
    if named and ctx.get_parameter_source("bootstrap_servers") != ParameterSource.COMMANDLINE:
        servers = named
    if not servers:
        raise click.UsageError(
            "no brokers named: pass -b HOST:PORT, or set SABOT_RAY_BOOTSTRAP_SERVERS"
        )
    return Connection(servers, {**from_file, **settings})


def _settings(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    settings = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise click.BadParameter(f"'{text}' is not NAME=VALUE", ctx, parameter)
        name, value = name.strip(), value.strip()
        if is_secret(name) and not Secret.is_reference_text(value):
            raise click.BadParameter(
                f"{name} in clear: everybody on this machine can read a command's arguments, and "
                f"the shell keeps them; pass -X {name}=env:NAME or -X {name}=file:PATH, or a "
                "--config file",
                ctx,
                parameter,
            )
        settings[name] = value
    return settings


def _complete_topic(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    given = ctx.params
    try:
        connection = _connect(
            ctx,
            given.get("bootstrap_servers"),
            given.get("settings") or {},
            given.get("config_file"),
        )
        config = connection.config()

        def ask() -> list[str]:
            client = connect_cluster(config)
            names = [*client.leaders()]
            client.close()
            return names

        names = in_background(ask, timeout_s=_COMPLETION_TIMEOUT_S)
    except (SabotRayError, click.UsageError, TimeoutError):
        # A completion that fails must not write into the line that is being typed.
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
