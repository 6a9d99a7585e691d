"""`linkage-site`: everything a site, a custodian and a rehearsal need."""

from __future__ import annotations

from linkage.program import Program
from sites.commands import (
    agent,
    answer,
    audit,
    bench,
    cohort,
    data,
    dicom,
    export,
    ids,
    interchange,
    keys,
    offer,
    omop,
    profile,
    rehearse,
    release,
    reuse,
    start,
    study,
)
from sites.commands.assertions import assert_
from sites.commands.governance import certificate, confirm, opt_out
from sites.commands.try_spec import try_spec
from sites.commands.withdraw import withdraw

app = Program(
    help="Tokenize a site's records, send them, and get pseudonymous IDs back."
    " Identifiers and the study key never leave this machine.",
)
app.command()(start.init)
app.command()(profile.profile)
app.command()(confirm)
app.command()(data.tokenize)
app.command()(data.submit)
app.command()(data.status)
app.command()(data.ids)
app.command()(export.export)
app.command()(answer.answer)
app.command()(agent.agent)
app.command()(agent.allow)
app.command("assert")(assert_)
app.command()(withdraw)
app.command("opt-out")(opt_out)
app.command()(certificate)
app.command()(cohort.counts)
app.command()(cohort.counted)
app.command()(cohort.accept_forgotten)
app.command()(cohort.join)
app.command()(omop.check_omop)
app.command()(offer.offer_concepts)
app.command("try-spec")(try_spec)
app.command()(bench.bench_cohort)
app.command()(dicom.read_dicom)
app.command()(reuse.performance)
app.command()(reuse.refresh)
app.command()(audit.audit)
app.command()(audit.accept_restored)
app.command()(interchange.clkhash)
app.command()(rehearse.rehearse)
app.command()(rehearse.demo)
app.add_typer(keys.app, name="keys")
app.add_typer(study.app, name="study")
app.add_typer(release.app, name="release")
app.add_typer(ids.app, name="id")


if __name__ == "__main__":
    app()
