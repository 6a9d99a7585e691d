"""`linkage-site offer-concepts`, `linkage-cohort concepts`: what questions may name."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linkage.errors import SourceRefused
from sites.terminal import DryRun, show, told, would

if TYPE_CHECKING:
    from sites.offering import Offer


@told
def offer_concepts(
    site: Annotated[Path, typer.Option("--site", help="The site file.")] = Path("site.toml"),
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write the list to a CSV file, and send nothing.")
    ] = None,
    take_back: Annotated[
        bool, typer.Option("--withdraw", help="Take back the list that the broker has.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Offer researchers the concepts and values that enough persons of this site have."""
    if take_back:
        _withdraw(site, dry_run=dry_run, as_json=as_json)
        return
    from sites.offering import DISCLOSES, prepare, require_remembered, send
    from sites.session import session_of

    with session_of(site) as session:
        if out_file is None:
            require_remembered(session)
        offer = prepare(session, keep=not dry_run and out_file is None)
        rows, data = offer.rows(), offer.to_json()
        if out_file is not None and not dry_run:
            _write(out_file, offer)
            show("List written", rows | {"file": out_file}, as_json=as_json, data=data)
            return
        rows["what it tells"] = DISCLOSES
        if dry_run:
            data |= {"dry_run": True}
            show("Dry run: would offer; nothing was sent", rows, as_json=as_json, data=data)
            return
        taken = send(session, offer)
    rows["take it back"] = "linkage-site offer-concepts --withdraw"
    data |= {"sent": taken.model_dump(mode="json")}
    show("Offered to the researchers of the study", rows, as_json=as_json, data=data)


@told
def concepts(
    words: Annotated[list[str], typer.Argument(help="Words of the name, a code, or a number.")],
    site: Annotated[Path, typer.Option("--site", help="The site file.")] = Path("site.toml"),
    domain: Annotated[
        str, typer.Option(help="Kind of record: condition, drug ...; unit for units of values.")
    ] = "",
    page: Annotated[int, typer.Option(min=1, max=1000, help="Further ones.")] = 1,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Find concepts by name among what the sites of the study offer, for a specification."""
    from sites.session import session_of

    asked = {"words": " ".join(words), "page": str(page)} | ({"domain": domain} if domain else {})
    with session_of(site, expired_too=True) as session:
        if dry_run:
            would("search", {"at": session.broker.url, **asked}, as_json=as_json)
            return
        there = session.broker.concepts(session.study_id, asked)
    rows: dict[str, object] = {
        f"{one.concept.concept_id}": f"{one.concept.name}  ({one.concept.domain},"
        f" {one.concept.vocabulary} {one.concept.code}, offered by {', '.join(one.parties)})"
        for one in there.found
    }
    if there.more:
        rows["more"] = f"--page {page + 1}, or one more word"
    title = "Offered" if there.found else "Nothing that the sites offer fits"
    show(title, rows, as_json=as_json, data=there.model_dump(mode="json"))


def _withdraw(site: Path, *, dry_run: bool, as_json: bool) -> None:
    from sites.offering import withdraw
    from sites.session import session_of

    with session_of(site, expired_too=True) as session:
        rows: dict[str, object] = {"at": session.broker.url, "party": session.party}
        if dry_run:
            would("take back the list", rows, as_json=as_json)
            return
        taken = withdraw(session)
    rows["who read it before"] = "has read it; the broker shows it to nobody from now on"
    show("The list is taken back", rows, as_json=as_json, data=taken.model_dump(mode="json"))


def _write(path: Path, offer: Offer) -> None:
    """Write the list as CSV. Raises SourceRefused where the file is there."""
    try:
        with path.open("x", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("kind", "concept_id", "name", "vocabulary", "code", "standard"))
            rows.writerows(
                (o.domain, o.concept_id, o.name, o.vocabulary, o.code, o.standard)
                for o in offer.concepts
            )
            for field, values in sorted(offer.values.items()):
                rows.writerows((field, "", value, "", "", "") for value in values)
    except FileExistsError:
        raise SourceRefused(
            file=path.name, rule="is there already", hint="name another file as --out"
        ) from None
