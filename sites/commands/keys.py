"""`linkage-site keys`: identities, the study key, sealing and opening it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkage.encoding.keys import StudyKey
from linkage.errors import KeyRefused
from linkage.messages import CUSTODIAN
from linkage.sealing import Identity
from linkage.signed_study import load_signed_study
from linkage.strict_toml import Fault
from linkage.study import identifier
from sites import custody
from sites.terminal import show, told

app = typer.Typer(no_args_is_help=True, help="Identities and study keys.")

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]


@app.command()
@told
def identity(
    folder: Annotated[Path, typer.Argument(help="The private folder, new or existing.")],
    name: Annotated[str, typer.Option(help="Your party id in the study, or 'custodian'.")],
) -> None:
    """Make this actor's own keys, once. Send only the public file to the custodian."""
    made = Identity.generate(_name(name))
    made.save(folder / ("custodian.key" if name == CUSTODIAN else "identity.key"))
    public = folder / f"{name}.public.json"
    public.write_text(made.public().model_dump_json(indent=1), encoding="utf-8")
    rows: dict[str, object] = {"send to the custodian": public}
    rows["read out by telephone"] = made.public().fingerprint
    show(f"Keys of {name} made in {folder}", rows)


@app.command()
@told
def new(
    file: Annotated[Path, typer.Argument(help="Where to write it; never overwritten.")],
) -> None:
    """Custodian: make a new study key."""
    StudyKey.generate().save(file)
    show("Study key made", {"file": file, "next": "linkage-site study sign"})


@app.command()
@told
def seal(
    signed_study: Annotated[Path, typer.Argument(help="The signed study.")],
    key: Annotated[Path, typer.Option(help="The study key file.")],
    custodian: Annotated[Path, typer.Option(help="The custodian's private key file.")],
    out: Annotated[Path, typer.Option(help="Folder for one sealed file a party.")],
) -> None:
    """Custodian: seal the study key to every party of the signed study."""
    signed, loaded, signer = load_signed_study(signed_study), StudyKey.load(key), custodian
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, object] = {}
    for party in signed.study.party:
        path = out / f"{party.id}.study-key.sealed"
        path.write_bytes(custody.seal_key(signed, loaded, Identity.load(signer), party.id))
        rows[f"send to {party.id}"] = path
    show("Study key sealed", rows)


@app.command("open")
@told
def open_(
    sealed: Annotated[Path, typer.Argument(help="The sealed file from the custodian.")],
    site: SiteFile = Path("site.toml"),
) -> None:
    """Site: open the study key that the custodian sealed to you."""
    from sites.config import load_site
    from sites.vault import Vault

    config = load_site(site)
    vault = Vault(config.private)
    signed = vault.signed_study(config.broker.custodian if config.broker else None)
    opened = custody.open_key(_read(sealed), signed, config.party, vault.identity())
    vault.study_key_file.unlink(missing_ok=True)
    opened.save(vault.study_key_file)
    show("Study key opened", {"file": vault.study_key_file, "next": "linkage-site tokenize"})


@app.command()
@told
def fingerprint(
    file: Annotated[Path, typer.Argument(help="A public identity or a signed study.")],
) -> None:
    """Show fingerprints, to compare by telephone."""
    if "pins" in file.read_text(encoding="utf-8"):
        pins = load_signed_study(file).pins
    else:
        pins = {"": custody.read_public(file)}
    show("Fingerprints", {pin.name: pin.fingerprint for pin in pins.values()})


def _name(name: str) -> str:
    try:
        return identifier(name)
    except Fault as fault:
        raise KeyRefused(f"{name!r} {fault.rule}", hint=fault.hint) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise KeyRefused(
            f"{path} cannot be read ({type(fault).__name__})", hint="check the path"
        ) from None
