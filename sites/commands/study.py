"""`linkage-site study`: check a study file, sign it, read what was signed, compare two."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from linkage import roles
from linkage.certificate import declared_size
from linkage.encoding.keys import StudyKey
from linkage.messages import CUSTODIAN
from linkage.schema import schema_hash
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy, load_signed_study
from linkage.strata import in_words
from linkage.study import StudyConfig, expected_density, load_study
from linkage.whole_file import write_whole
from sites import custody
from sites.terminal import DryRun, show, told, would

app = typer.Typer(no_args_is_help=True, help="Check, sign and compare study files.")
StudyFile = Annotated[Path, typer.Argument(help="The study file (TOML).")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Either = Annotated[Path, typer.Argument(help="A study file or a signed study.")]


@app.command()
@told
def check(study: StudyFile, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Check a study file and say in words what it means. Writes nothing."""
    config = load_study(study)
    rows = {**_described(config), "release gate": _needed(config, study)}
    show(f"{study} is acceptable", rows, as_json=as_json)


@app.command()
@told
def sign(
    study: StudyFile,
    key: Annotated[Path, typer.Option(help="The study key file.")],
    custodian: Annotated[Path, typer.Option(help="The custodian's private key file.")],
    public: Annotated[list[Path], typer.Option(help="A public identity; repeat for everyone.")],
    out: Annotated[Path, typer.Option(help="The signed study to write.")],
    certificate: Annotated[
        Path | None, typer.Option(help="Of the release gate, as `linkage attack` wrote it.")
    ] = None,
    previous: Annotated[
        Path | None, typer.Option(help="The signed study of the epoch before, for a rotation.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Custodian: sign a study file, which pins the keys of everyone who takes part."""
    roles.require_no_broker(custodian.parent)
    custody.require_new(out)
    signer, loaded = Identity.load(custodian), StudyKey.load(key)
    gate = custody.read_certificate(certificate) if certificate else None
    signed = custody.sign(study, public, loaded, signer, certificate=gate)
    rows: dict[str, object] = {"send to everyone": out, "study hash": signed.study_hash}
    rows |= _gate(signed)
    rows["read out your own by telephone"] = signer.public().fingerprint
    rows |= {
        f"compare with {name} by telephone": pin.fingerprint
        for name, pin in signed.pins.items()
        if name != CUSTODIAN
    }
    if previous is not None:
        before = load_signed_study(previous)
        custody.check_rotation(before, signed, loaded)
        rows |= _rotation(before, signed)
    elif signed.study.study.epoch > 1:
        rows["NOT COMPARED"] = "with the epoch before; give it with --previous"
    if dry_run:
        would("sign the study", rows, as_json=as_json)
        return
    write_whole(out, signed.model_dump_json(indent=1))
    data = {
        "signed": str(out),
        "study_hash": signed.study_hash,
        "epoch": signed.study.study.epoch,
        "release_gate": signed.release_gate,
        "fingerprint": signer.public().fingerprint,
    }
    show("Study signed", rows, as_json=as_json, data=data)


@app.command()
@told
def verify(
    signed_study: Annotated[Path, typer.Argument(help="The signed study.")],
    custodian: Annotated[str | None, typer.Option(help="The fingerprint you were told.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Verify a signed study: signature, pins, and the custodian's fingerprint. Writes nothing."""
    signed = load_signed_study(signed_study, custodian_fingerprint=custodian)
    rows = {**_described(signed.study), "study hash": signed.study_hash}
    rows["normalisation"] = signed.normalisation or "not named"
    rows |= _gate(signed)
    if signed.rehearsal:
        rows["REHEARSAL"] = "one installation may play every part; never for real records"
    if custodian is None:
        rows["NOT COMPARED"] = (
            "the custodian's fingerprint; hear it by telephone, give it with --custodian"
        )
    rows |= {f"keys of {name}": pin.fingerprint for name, pin in signed.pins.items()}
    show("The signed study is in order", rows, as_json=as_json)


@app.command()
@told
def compare(a: Either, b: Either, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Show field by field what differs between two study files or signed studies."""
    from sites import comparison

    left, right = comparison.read(a), comparison.read(b)
    found = comparison.compare(left, right)
    why = comparison.why_not(left, right, (a.name, b.name))
    encodings = "DO NOT COMPARE, for" if why else "compare, given one study key"
    rows: dict[str, object] = {"records encoded by these two": encodings}
    rows |= {f"  reason {number}": line for number, line in enumerate(why, start=1)}
    rows |= {one.place: f"{one.left}  ->  {one.right}" for one in found}
    data = {
        "encodings_compare": not why,
        "why_not": why,
        "differences": [asdict(one) for one in found],
    }
    title = f"{len(found)} differences, {a} -> {b}" if found else f"{a} and {b} say the same"
    show(title, rows, as_json=as_json, data=data)


def _gate(signed: SignedStudy) -> dict[str, object]:
    """Say the verdict of the release gate; of an exception also what it excepts from."""
    rows: dict[str, object] = {"release gate": signed.release_gate}
    if signed.exception:
        # Loud: whoever reads this decides whether to give records under it.
        excepted = enumerate(signed.gate_reasons, start=1)
        rows |= {f"EXCEPTED FROM ({number})": reason for number, reason in excepted}
    return rows


def _needed(config: StudyConfig, file: Path) -> str:
    """Say what signing this file will need."""
    if config.study.release_gate_exception:
        return f"EXCEPTION: {config.study.release_gate_exception}"
    if config.study.profile == "clkhash":
        return "EXCEPTION: accept_graph_matching_risk = true"
    if (size := declared_size(config)) is None:
        return (
            "write records = N into every [[party]]: the most records that it may upload; then"
            f" `linkage attack {file} --out gate`"
        )
    return (
        f"to be measured for {size:,} records with `linkage attack {file} --out gate`; sign with"
        " --certificate gate/certificate.json"
    )


def _rotation(before: SignedStudy, after: SignedStudy) -> dict[str, object]:
    from sites import comparison

    found = comparison.compare(
        comparison.Compared(before.study, before), comparison.Compared(after.study, after)
    )
    return {f"new: {one.place}": f"{one.left}  ->  {one.right}" for one in found}


def _looks(config: StudyConfig) -> str:
    if (looks := config.looks) is None:
        return "never: sites are asked nothing about single pairs"
    return (
        f"sites answer field by field for at most {looks.most_per_run:,} pairs a run and"
        f" {looks.most_per_record} a record, in at most {looks.most_runs:,} runs;"
        f" {looks.decoys:.0%} are decoys; a run waits {looks.wait_hours:g} hours"
        " (sites answer by `linkage-site answer`, and keep to these limits themselves)"
    )


def _reviews(config: StudyConfig) -> str:
    if (review := config.reviews) is None:
        return "never: nobody is shown how the fields of two records agree"
    return (
        f"at most {review.most_pairs:,} pairs in doubt and {review.sample:,} links a run, as field"
        f" agreements without values; about {review.decoys:.0%} of all have known answers"
    )


def _described(config: StudyConfig) -> dict[str, object]:
    rows: dict[str, object] = {
        "study": f"{config.study.id}: {config.study.title}",
        "purpose": config.study.purpose,
        "epoch": config.study.epoch,
        "expires after": config.study.expires or "never",
        "profile": config.study.profile,
        "minimum cell": config.study.minimum_cell,
        "counts are shown": config.counts.in_words(config.study.minimum_cell),
        "images are fetched": config.study.image_retrieval,
        "IDs are released to": ", ".join(config.study.release_to) or "the enclave only",
        "how IDs were linked": (
            "told to the enclave, if every steward consents"
            if config.study.release_methods
            else "never told"
        ),
        "second look": _looks(config),
        "review by people": _reviews(config),
        "marks of groups": in_words(config.strata),
        "schema hash": schema_hash(config),
    }
    for party in config.party:
        clks = ", ".join(c.id for c in config.clks_of(party)) or "none"
        said = f"{party.kind}; CLKs: {clks}; match keys: {len(config.rules_of(party))}"
        if party.records is not None:
            said += f"; at most {party.records:,} records"
        if party.contributors:
            said += f"; tokenized by: {', '.join(party.contributors)}"
        if party.expires:
            said += f"; agreement until {party.expires}"
        if party.sequestered:
            said += "; SEQUESTERED: counts only, never rows"
        rows[f"party {party.id}"] = said
    for one in config.purpose:
        rows[f"purpose {one.id}"] = f"{one.title} ({one.use} use)"
        for party in config.party:
            features = ", ".join(config.agreed.features(party.id, one.id)) or "nothing"
            rows[f"  {party.id} for {one.id}"] = features
    for clk in config.clk:
        rows[f"CLK {clk.id}"] = (
            f"{clk.length} bits, diffusion {config.diffusion_of(clk)},"
            f" density about {expected_density(clk):.0%}"
        )
    return rows
