"""`linkage-site`: everything a site, a custodian and a rehearsal need."""

from __future__ import annotations

import typer

from sites.commands import (
    answer,
    audit,
    cohort,
    data,
    interchange,
    keys,
    profile,
    rehearse,
    start,
    study,
)
from sites.commands.assertions import assert_
from sites.commands.withdraw import withdraw

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tokenize a site's records, send them, and get pseudonymous IDs back."
    " Identifiers and the study key never leave this machine.",
)
app.command()(start.init)
app.command()(profile.profile)
app.command()(data.tokenize)
app.command()(data.submit)
app.command()(data.status)
app.command()(data.ids)
app.command()(answer.answer)
app.command("assert")(assert_)
app.command()(withdraw)
app.command()(cohort.counts)
app.command()(cohort.join)
app.command()(audit.audit)
app.command()(interchange.clkhash)
app.command()(rehearse.rehearse)
app.command()(rehearse.demo)
app.add_typer(keys.app, name="keys")
app.add_typer(study.app, name="study")


if __name__ == "__main__":
    app()
