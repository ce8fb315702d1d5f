"""``sabot-ray completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from sabot_ray.cli.help import Command


@click.command(
    cls=Command,
    examples=(
        'bash:  eval "$(sabot-ray completion bash)"       (in ~/.bashrc)',
        'zsh:   eval "$(sabot-ray completion zsh)"        (in ~/.zshrc)',
        "fish:  sabot-ray completion fish | source        (in config.fish)",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that lets the shell complete commands, options and topics.

    Topics are asked of the brokers named in the line by -b, or in the environment.
    """
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(ctx.find_root().command, {}, "sabot-ray", "_SABOT_RAY_COMPLETE").source())
