"""The command line: ``sabot-ray``."""

from __future__ import annotations

import logging
import os
import sys

import click
from rich.console import Console
from rich.logging import RichHandler

from sabot_ray.cli.completion import completion
from sabot_ray.cli.demo import demo
from sabot_ray.cli.help import Group
from sabot_ray.cli.info import info
from sabot_ray.cli.lag import lag
from sabot_ray.cli.produce import produce
from sabot_ray.cli.tail import tail
from sabot_ray.cli.topics import topics
from sabot_ray.errors import SabotRayError

#: As shells count a program that Ctrl-C has ended: 128 and the signal's number.
_INTERRUPTED = 130
_CLIENT_LOGS = ("sabot_ray.librdkafka", "aiokafka")


class _Group(Group):
    """Shows our errors as one line without a traceback, and ends quietly with its pipe."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SabotRayError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:
            # `| head` has seen enough. Python would flush what is left of it once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=(
        "sabot-ray demo                      (needs no Kafka and no cluster)",
        "export SABOT_RAY_BOOTSTRAP_SERVERS=localhost:9092",
        "sabot-ray topics",
        "sabot-ray tail transactions --last 5",
        "sabot-ray lag processor --watch",
    ),
)
@click.version_option(package_name="sabot-ray")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, to standard error.")
def main(verbose: bool) -> None:
    """Kafka as a fast, trustworthy source of Ray.

    Exit codes: 0 done, or the pipe was closed; 1 an error, told in one line on standard error;
    2 wrong usage; 130 stopped by Ctrl-C.
    """
    level = logging.INFO if verbose else logging.WARNING
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=False)
    if not verbose:
        # What matters of the clients' own lines is told as an error.
        handler.addFilter(lambda record: not record.name.startswith(_CLIENT_LOGS))
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])


for command in (completion, demo, info, lag, produce, tail, topics):
    main.add_command(command)
