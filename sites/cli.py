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
# The order is that of the work; one list of all would be longer than a screen.
app.add_panels(
    {
        "Records: tokenize, send, get IDs": {
            "init": start.init,
            "profile": profile.profile,
            "confirm": confirm,
            "tokenize": data.tokenize,
            "submit": data.submit,
            "status": data.status,
            "ids": data.ids,
            "id": ids.app,
            "export": export.export,
            "assert": assert_,
        },
        "Answers: second looks and cohort questions": {
            "answer": answer.answer,
            "agent": agent.agent,
            "allow": agent.allow,
            "offer-concepts": offer.offer_concepts,
            "read-dicom": dicom.read_dicom,
            "try-spec": try_spec,
        },
        "Enclave: count, join, use": {
            "counts": cohort.counts,
            "counted": cohort.counted,
            "accept-forgotten": cohort.accept_forgotten,
            "check-omop": omop.check_omop,
            "join": cohort.join,
            "refresh": reuse.refresh,
            "performance": reuse.performance,
        },
        "Consent, withdrawal, end": {
            "release": release.app,
            "opt-out": opt_out,
            "withdraw": withdraw,
            "certificate": certificate,
        },
        "Trust: keys, study files, the broker's log": {
            "keys": keys.app,
            "study": study.app,
            "audit": audit.audit,
            "accept-restored": audit.accept_restored,
        },
        "Try and measure": {
            "demo": rehearse.demo,
            "rehearse": rehearse.rehearse,
            "clkhash": interchange.clkhash,
            "bench-cohort": bench.bench_cohort,
        },
    }
)


if __name__ == "__main__":
    app()
