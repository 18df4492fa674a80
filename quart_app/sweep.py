"""The command `sweep-uploads`: lists what killed processes left in S3, and aborts it if it is told to."""

import asyncio
import os
from datetime import UTC, datetime

import click

from filehandoff.errors import BucketMissing, SettingsError, UploadError
from filehandoff.settings import misspelt
from filehandoff.sweep import ABORT_HELP, DEFAULT_AGE, HELP, OLDER_THAN_HELP, Age, choose, reason
from quart_app.store import Store


def sweep_command(store: Store) -> click.Command:
    """The command for the app of this store."""

    @click.command("sweep-uploads", help=HELP)
    @click.option(
        "--older-than", metavar="AGE", default=DEFAULT_AGE, show_default=True, callback=_age, help=OLDER_THAN_HELP
    )
    @click.option("--abort", is_flag=True, help=ABORT_HELP)
    @click.pass_context
    def command(context: click.Context, *, older_than: Age, abort: bool) -> None:
        # A misspelt bucket or prefix would be another sweep than was meant.
        for name, meant in misspelt(os.environ).items():
            click.echo(f"quart_app: {name} is no setting; was {meant} meant?", err=True)
        try:
            done = asyncio.run(_with_open_store(store, older_than, abort=abort))
        except (BucketMissing, SettingsError, UploadError) as error:
            raise click.ClickException(reason(error)) from None
        context.exit(0 if done else 1)

    return command


async def sweep(store: Store, older_than: Age, *, abort: bool) -> bool:
    """Print the uploads that are that old, aborted or not; False if one could not be aborted.

    Raises:
        BucketMissing: there is no such bucket.
        StoreRejected, StoreUnavailable: S3 does not list them.
    """
    found = choose(
        store.settings, await store.unfinished_uploads(store.settings.key_prefix), older_than, datetime.now(UTC)
    )
    aborted = 0 if abort else None
    for upload in found.uploads:
        if aborted is None:
            click.echo(found.line(upload))
            continue
        try:
            await store.abort_multipart(upload.key, upload.upload_id)
        except UploadError as error:
            click.echo(found.failed(upload, error), err=True)
        else:
            click.echo(found.aborted(upload))
            aborted += 1
    click.echo(found.summary(aborted))
    return aborted in {None, len(found.uploads)}


async def _with_open_store(store: Store, older_than: Age, *, abort: bool) -> bool:
    await store.open()
    try:
        return await sweep(store, older_than, abort=abort)
    finally:
        await store.close()


def _age(_context: click.Context, _option: click.Parameter, text: str) -> Age:
    try:
        return Age.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
