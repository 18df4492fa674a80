"""The command `sweep-uploads` of both apps: lists or aborts unfinished multipart uploads."""

import os
from collections.abc import Callable
from datetime import UTC, datetime

import click

from filehandoff.errors import BucketMissing, SettingsError, UploadError
from filehandoff.s3 import flows
from filehandoff.s3.calls import Flow
from filehandoff.s3.upload_removal import Uploads, all_uploads, remove_expired
from filehandoff.service import Service
from filehandoff.settings import misspelt
from filehandoff.sweep import ABORT_HELP, DEFAULT_AGE, HELP, OLDER_THAN_HELP, Age, choose, expired_line, reason


def sweep_command(program: str, service: Service, run: Callable[[Flow[bool]], bool]) -> click.Command:
    """Make an app's command; `run` opens the store if needed, and runs a flow."""

    @click.command("sweep-uploads", help=HELP)
    @click.option(
        "--older-than", metavar="AGE", default=DEFAULT_AGE, show_default=True, callback=_age, help=OLDER_THAN_HELP
    )
    @click.option("--abort", is_flag=True, help=ABORT_HELP)
    @click.pass_context
    def command(context: click.Context, *, older_than: Age, abort: bool) -> None:
        # With a misspelt setting, the command would sweep another bucket or prefix.
        for name, meant in misspelt(os.environ).items():
            click.echo(f"{program}: {name} is no setting; was {meant} meant?", err=True)
        try:
            done = run(sweep(service, older_than, abort=abort))
        except (BucketMissing, SettingsError, UploadError) as error:
            raise click.ClickException(reason(error)) from None
        context.exit(0 if done else 1)

    return command


def sweep(service: Service, older_than: Age, *, abort: bool) -> Flow[bool]:
    """Print or abort uploads of at least this age; return whether no abort failed.

    Raises:
        BucketMissing: there is no such bucket.
        StoreRejected, StoreUnavailable: S3 does not list the uploads.
    """
    settings = service.settings
    unfinished = yield from flows.unfinished_uploads(settings.bucket, settings.common_prefix)
    uploads = yield from all_uploads(service)
    found = choose(settings, unfinished, older_than, datetime.now(UTC), uploads.living)
    aborted = 0 if abort else None
    for upload in found.uploads:
        if aborted is None:
            click.echo(found.line(upload))
            continue
        try:
            yield from flows.abort(service, upload.key, upload.upload_id)
        except UploadError as error:
            click.echo(found.failed(upload, error), err=True)
        else:
            click.echo(found.aborted(upload))
            aborted += 1
    removed = yield from _sweep_expired(service, uploads, abort=abort)
    click.echo(found.summary(aborted))
    return aborted in {None, len(found.uploads)} and removed


def _sweep_expired(service: Service, uploads: Uploads, *, abort: bool) -> Flow[bool]:
    """Print or remove expired resumable uploads; return whether no removal failed."""
    failed = False
    for folder, seconds in sorted(uploads.expired.items()):
        line = expired_line(folder, seconds)
        try:
            if abort:
                yield from remove_expired(service, folder)
        except UploadError as error:
            failed = True
            click.echo(f"not removed  {line}: {reason(error)}", err=True)
        else:
            click.echo(f"removed  {line}" if abort else line)
    return not failed


def _age(_context: click.Context, _option: click.Parameter, text: str) -> Age:
    try:
        return Age.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
