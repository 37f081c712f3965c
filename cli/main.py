"""The `kairos` command. Long work shows progress; `--json` where a program may read the answer."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from typing import Annotated

import typer

from cli import (
    benchmark,
    benchmark_models,
    config_commands,
    log_commands,
    model_commands,
    push_commands,
    store_commands,
    train_commands,
)
from cli.simulate import simulate
from cli.terminal import complain, say, settings_of
from engine.errors import KairosError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
log_commands.register(app)
config_commands.register(app)
train_commands.register(app)
app.command()(simulate)
store_commands.register(app)
benchmark_models.register(benchmark.app)
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(model_commands.app, name="models")
app.add_typer(push_commands.app, name="push")


@app.callback()
def kairos() -> None:
    """Kairos decides what an app shows and when it speaks."""


@app.command()
def up(
    dev: Annotated[bool, typer.Option(help="One process, no Ray, ready in two seconds.")] = False,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Start everything and serve until Ctrl-C."""
    settings = settings_of(host=host, port=port)
    if dev:
        from serving import dev as one_process

        one_process.up(settings, say)
    else:
        from serving import up as service

        service.up(settings, say, lambda: settings_of(host=host, port=port))


@app.command()
def demo(
    once: Annotated[bool, typer.Option(help="Stop at the end instead of serving on.")] = False,
    users: Annotated[int, typer.Option(help="People of the simulated world.")] = 2000,
    days: Annotated[int, typer.Option(help="Days of its past.")] = 28,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Simulate a recipe app, train on it, serve it, and follow one person through a day."""
    from cli.demo import run_demo

    run_demo(settings_of(port=port), users=users, days=days, once=once)


def close_ray() -> None:
    """Ray's switches that keep its processes to this machine; it reads them when it is imported.

    It would listen on every network otherwise. The first makes it start as it does on a laptop,
    on loopback alone; the token is this command's own, and Ray's would lie in ~/.ray for all.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def main() -> None:
    """Run the command; an error of ours is one line and exit code 1."""
    close_ray()
    # As Ctrl-C does: what was started has to be stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except KairosError as error:
        complain(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
