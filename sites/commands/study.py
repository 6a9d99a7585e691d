"""`linkage-site study`: check a study file, sign it, read what was signed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkage.encoding.keys import StudyKey
from linkage.schema import schema_hash
from linkage.sealing import Identity
from linkage.signed_study import load_signed_study
from linkage.study import StudyConfig, expected_density, load_study
from sites import custody
from sites.terminal import show, told

app = typer.Typer(no_args_is_help=True, help="Check and sign study files.")
StudyFile = Annotated[Path, typer.Argument(help="The study file (TOML).")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
@told
def check(study: StudyFile, as_json: AsJson = False) -> None:
    """Check a study file and say in words what it means."""
    config = load_study(study)
    show(f"{study} is acceptable", _described(config), as_json=as_json)


@app.command()
@told
def sign(
    study: StudyFile,
    key: Annotated[Path, typer.Option(help="The study key file.")],
    custodian: Annotated[Path, typer.Option(help="The custodian's private key file.")],
    public: Annotated[list[Path], typer.Option(help="A public identity; repeat for everyone.")],
    out: Annotated[Path, typer.Option(help="The signed study to write.")],
) -> None:
    """Custodian: sign a study file, which pins the keys of every party and of the broker."""
    signer = Identity.load(custodian)
    signed = custody.sign(study, public, StudyKey.load(key), signer)
    out.write_text(signed.model_dump_json(indent=1), encoding="utf-8")
    rows: dict[str, object] = {"send to everyone": out, "study hash": signed.study_hash}
    rows["read out by telephone"] = signer.public().fingerprint
    show("Study signed", rows)


@app.command()
@told
def verify(
    signed_study: Annotated[Path, typer.Argument(help="The signed study.")],
    custodian: Annotated[str | None, typer.Option(help="The fingerprint you were told.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a signed study: signature, pins, and the custodian's fingerprint."""
    signed = load_signed_study(signed_study, custodian_fingerprint=custodian)
    rows = {**_described(signed.study), "study hash": signed.study_hash}
    if signed.rehearsal:
        rows["REHEARSAL"] = "one installation may play every part; never for real records"
    if custodian is None:
        rows["NOT COMPARED"] = "the custodian's fingerprint; give it with --custodian"
    rows |= {f"keys of {name}": pin.fingerprint for name, pin in signed.pins.items()}
    show("The signed study is in order", rows, as_json=as_json)


def _described(config: StudyConfig) -> dict[str, object]:
    rows: dict[str, object] = {
        "study": f"{config.study.id}: {config.study.title}",
        "purpose": config.study.purpose,
        "expires after": config.study.expires or "never",
        "profile": config.study.profile,
        "minimum cell": config.study.minimum_cell,
        "images are fetched": config.study.image_retrieval,
        "IDs are released to": ", ".join(config.study.release_to) or "the enclave only",
        "schema hash": schema_hash(config),
    }
    for party in config.party:
        clks = ", ".join(c.id for c in config.clks_of(party)) or "none"
        rows[f"party {party.id}"] = (
            f"{party.kind}; CLKs: {clks}; match keys: {len(config.rules_of(party))}"
        )
    for clk in config.clk:
        rows[f"CLK {clk.id}"] = (
            f"{clk.length} bits, diffusion {config.diffusion_of(clk)},"
            f" density about {expected_density(clk):.0%}"
        )
    return rows
