"""Commands on a store: keys, erasure, rebuild."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from cli.terminal import complain, console, print_json, say, settings_of
from engine.redis_store import RedisStore

keys = typer.Typer(no_args_is_help=True, help="API keys.")


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos`."""
    app.add_typer(keys, name="keys")
    app.command()(erase)
    app.command()(rebuild)


@contextmanager
def connected() -> Iterator[RedisStore]:
    """A client of the store: the one that runs, or the embedded one started for the while."""
    from serving.up import opened_store

    with opened_store(settings_of(), complain) as (settings, _):
        store = RedisStore.connect(settings)
        try:
            yield store
        finally:
            store.close()


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[str, typer.Option(help="ingest, serve or admin.")] = "serve",
    rate: Annotated[float, typer.Option(min=0, help="Requests a second; 0: no limit.")] = 0.0,
    burst: Annotated[
        float, typer.Option(min=0, help="Requests at once; 0: as many as in a second.")
    ] = 0.0,
) -> None:
    """Create a key and print it: it cannot be seen again."""
    from serving.http import Role
    from serving.keys import create_key

    if role not in list(Role):
        raise typer.BadParameter(f"expected ingest, serve or admin, got {role}")
    with connected() as store:
        say(create_key(store, name, Role(role), rate, burst))


@keys.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Revoke every key of a name: within a second nothing accepts it."""
    from serving.keys import revoke_keys

    with connected() as store:
        say(f"revoked {revoke_keys(store, name)}")


def erase(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Erase a person: forgotten at once, cleaned everywhere by the running service."""
    from serving import erasure

    with connected() as store:
        receipt = erasure.ask(store, user)
    if as_json:
        print_json(receipt)
    else:
        say(f"receipt {receipt.receipt_id}: {receipt.status}")


def rebuild() -> None:
    """Fold the whole log into an empty store beside the old, and swap it in."""
    from engine.archive import Archive
    from serving.check import set_fold_version
    from serving.rebuild import Rebuild

    with connected() as store, console().status("rebuilding") as status:

        def progress(partition: int, records: int) -> None:
            where = "items" if partition < 0 else f"partition {partition}"
            status.update(f"rebuilding {where}: {records:,} records")

        records = Rebuild(store, Archive(store.settings.archive_path), progress).run()
        set_fold_version(store)
    say(f"rebuilt from {records:,} records")
