"""`linkage-site keys`: identities, the study key, sealing and opening it, putting it out of use."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linkage import roles
from linkage.encoding.keys import StudyKey
from linkage.errors import KeyRefused
from linkage.messages import BROKER, CUSTODIAN
from linkage.sealing import Identity
from linkage.signed_study import load_signed_study
from linkage.strict_toml import Fault
from linkage.study import identifier
from linkage.whole_file import write_whole
from sites import custody
from sites.terminal import DryRun, show, told, would

if TYPE_CHECKING:
    from sites.vault import Vault

app = typer.Typer(no_args_is_help=True, help="Identities and study keys.")

SiteFile = Annotated[Path, typer.Option("--site", help="The site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
SignedFile = Annotated[Path, typer.Argument(help="The signed study.")]
CustodianKey = Annotated[Path, typer.Option(help="The custodian's private key file.")]


@app.command()
@told
def identity(
    folder: Annotated[Path, typer.Argument(help="The private folder, new or existing.")],
    name: Annotated[
        str, typer.Option(help="Your party or contributor id in the study, or 'custodian'.")
    ],
    keyring: Annotated[
        bool,
        typer.Option(
            "--keyring", help='Into the system keyring, for keys = "keyring" in the site file.'
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make this actor's own keys, once. Send only the public file to the custodian."""
    from sites.vault import Vault

    _name(name)
    vault = Vault(folder, "keyring" if keyring else "file")
    public = folder / f"{name}.public.json"
    if name == CUSTODIAN:
        roles.require_no_broker(folder)
    before = None if public.exists() else _made_before(name, folder, vault)
    # Keys that are there lack only the public file: a full disk, or somebody moved it.
    if before is None:
        _require_new(name, folder, vault)
    if dry_run:
        would("make keys", {"in": folder, "public file": public}, as_json=as_json)
        return
    made = before or Identity.generate(name)
    if before is None:
        _keep(made, folder, vault)
    write_whole(public, made.public().model_dump_json(indent=1))
    to = "everyone" if name == CUSTODIAN else "the custodian"
    rows: dict[str, object] = {f"send to {to}": public}
    rows["read out by telephone"] = made.public().fingerprint
    data = {"name": name, "public": str(public), "fingerprint": made.public().fingerprint}
    title = f"Keys of {name} made in {folder}"
    if before is not None:
        title = f"Keys of {name} were there; their public file is written again"
    show(title, rows, as_json=as_json, data=data)


@app.command()
@told
def new(
    file: Annotated[Path, typer.Argument(help="Where to write it; never overwritten.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Custodian: make a new study key. It is never shown."""
    roles.require_no_broker(file.parent)
    custody.require_new(file)
    if dry_run:
        would("make a study key", {"file": file}, as_json=as_json)
        return
    StudyKey.generate().save(file)
    show("Study key made", {"file": file, "next": "linkage-site study sign"}, as_json=as_json)


@app.command()
@told
def seal(
    signed_study: SignedFile,
    key: Annotated[Path, typer.Option(help="The study key file.")],
    custodian: CustodianKey,
    out: Annotated[Path, typer.Option(help="Folder for one sealed file an uploader.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Custodian: seal the study key to everyone who tokenizes: contributors, other parties."""
    roles.require_no_broker(custodian.parent)
    signer, loaded = Identity.load(custodian), StudyKey.load(key)
    signed = load_signed_study(signed_study, custodian_fingerprint=signer.public().fingerprint)
    uploaders = signed.study.uploaders
    sealed = {one: custody.seal_key(signed, loaded, signer, one) for one in uploaders}
    paths = {one: out / f"{one}.study-key.sealed" for one in uploaders}
    rows: dict[str, object] = {f"send to {one}": path for one, path in paths.items()}
    if dry_run:
        would("seal the study key", rows, as_json=as_json)
        return
    out.mkdir(parents=True, exist_ok=True)
    for one, path in paths.items():
        path.write_bytes(sealed[one])
    data = {one: str(path) for one, path in paths.items()}
    rows |= {f"{one} compares by telephone": signed.pin(one).fingerprint for one in uploaders}
    show("Study key sealed", rows, as_json=as_json, data=data)


@app.command("open")
@told
def open_(
    sealed: Annotated[Path, typer.Argument(help="The sealed file from the custodian.")],
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Site: open the study key that the custodian sealed to you."""
    from sites.config import load_site
    from sites.deactivation import require_active
    from sites.session import require_tokenizer, trusted_study

    config = load_site(site)
    vault, signed = trusted_study(config)
    require_tokenizer(config, signed.study, site)
    require_active(signed, vault)
    opened = custody.open_key(_read(sealed), signed, config.uploader, vault.identity())
    rows: dict[str, object] = {
        "study": signed.study.study.id,
        "epoch": signed.study.study.epoch,
        "release gate": signed.release_gate,
        "kept in": vault.keystore.where("study.key"),
    }
    if dry_run:
        would("keep the study key", rows, as_json=as_json)
        return
    vault.keep_study_key(opened)
    rows["next"] = f"linkage-site tokenize; delete {sealed}"
    show("Study key opened", rows, as_json=as_json)


@app.command()
@told
def deactivate(
    signed_study: SignedFile,
    custodian: CustodianKey,
    reason: Annotated[str, typer.Option(help="A line that everybody may read.")],
    out: Annotated[Path, typer.Option(help="The signed notice to write.")],
    date: Annotated[str | None, typer.Option(help="Since when; default: today.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Custodian: sign a notice that an epoch's study key is out of use. There is no way back."""
    from sites.deactivation import make_notice

    roles.require_no_broker(custodian.parent)
    signed = load_signed_study(signed_study)
    day = date or dt.datetime.now(dt.UTC).date().isoformat()
    notice = make_notice(signed, Identity.load(custodian), reason=reason, date=day)
    custody.require_new(out)
    data: dict[str, object] = {
        "study": notice.study_id,
        "epoch": notice.epoch,
        "deactivated": notice.said,
        "notice": str(out),
    }
    if dry_run:
        would("sign the notice", data, as_json=as_json)
        return
    write_whole(out, notice.model_dump_json(indent=1))
    rows = data | {
        "send to everyone": out,
        "each site runs": "linkage-site keys retire NOTICE",
        "the broker runs": "linkage-broker study deactivate NOTICE",
        "you": "destroy the study key file and its copies",
    }
    show("Study key deactivated", rows, as_json=as_json, data=data)


@app.command()
@told
def retire(
    notice: Annotated[Path, typer.Argument(help="The custodian's signed notice.")],
    site: SiteFile = Path("site.toml"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Site: destroy your copy of a study key that the custodian put out of use."""
    from linkage.signed_study import check_deactivation
    from sites import deactivation
    from sites.config import load_site
    from sites.session import trusted_study

    config = load_site(site)
    vault, signed = trusted_study(config)
    read = deactivation.read_notice(notice)
    check_deactivation(read, signed)
    rows: dict[str, object] = {
        "study": read.study_id,
        "epoch": read.epoch,
        "deactivated": read.said,
        "key": vault.keystore.where("study.key"),
    }
    if dry_run:
        would("destroy the study key", rows, as_json=as_json)
        return
    had = deactivation.retire(read, signed, vault)
    rows["done"] = "destroyed" if had else "there was none; it cannot be opened any more"
    rows["also delete"] = "the sealed file that it came in, and backups of both"
    show("Study key retired", rows, as_json=as_json)


@app.command()
@told
def fingerprint(
    file: Annotated[Path, typer.Argument(help="A public identity or a signed study.")],
    compare: Annotated[
        str | None, typer.Option(help="What you were told; of a signed study: the custodian's.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Show fingerprints, to compare by telephone; or compare what you were told. Writes nothing."""
    from linkage import fingerprints

    if b'"pins"' in _read(file):
        signed = load_signed_study(file)
        pins, main = signed.pins, signed.pin(CUSTODIAN)
    else:
        main = custody.read_public(file)
        pins = {main.name: main}
    if compare is not None:
        fingerprints.compare(compare, main.fingerprint, main.name)
    title = "Fingerprints: compare each with its owner by telephone"
    if compare is not None:
        title = f"The fingerprint of {main.name} is the one you were told"
    rows: dict[str, object] = {pin.name: pin.fingerprint for pin in pins.values()}
    show(title, rows, as_json=as_json)


def _made_before(name: str, folder: Path, vault: Vault) -> Identity | None:
    """Return the keys that were made in this folder under this name, None where none were."""
    from sites.vault import IDENTITY

    key = folder / roles.CUSTODIAN_KEY
    if name == CUSTODIAN:
        return Identity.load(key) if key.exists() else None
    own = vault.identity() if vault.keystore.has(IDENTITY) else None
    return own if own is not None and own.name == name else None


def _require_new(name: str, folder: Path, vault: Vault) -> None:
    """Raises KeyRefused where keys are in this folder already."""
    from sites.vault import IDENTITY

    if name == CUSTODIAN:
        custody.require_new(folder / roles.CUSTODIAN_KEY)
    elif vault.keystore.has(IDENTITY):
        raise KeyRefused(
            f"{vault.keystore.where(IDENTITY)} exists; keys are never overwritten",
            hint="use them, or choose another folder for another study",
        )


def _keep(made: Identity, folder: Path, vault: Vault) -> None:
    if made.name == CUSTODIAN:
        made.save(folder / roles.CUSTODIAN_KEY)
        roles.remember("custodian", folder)
    else:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        vault.keep_identity(made)


def _name(name: str) -> None:
    if name == BROKER:
        raise KeyRefused(
            "the broker's keys are made on its own machine", hint="run there: linkage-broker init"
        )
    try:
        identifier(name)
    except Fault as fault:
        raise KeyRefused(f"{name!r} {fault.rule}", hint=fault.hint) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyRefused(
            f"{path} cannot be read: there is no such file", hint="check the path"
        ) from None
    except OSError as fault:
        raise KeyRefused(
            f"{path} cannot be read ({type(fault).__name__})", hint="check the path"
        ) from None
