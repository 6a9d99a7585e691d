"""
One site in one study, ready to act: its configuration, its keys, and its broker.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from linkage.errors import NotAllowed, NotFound, SiteRefused
from linkage.messages import BROKER
from linkage.sealing import Context, Identity, seal, unseal
from linkage.signed_study import SignedStudy
from linkage.study import StudyConfig
from sites.audit_heads import HEADS, KeptHeads
from sites.config import SiteConfig, load_site
from sites.custody import require_own_keys
from sites.vault import Vault

if TYPE_CHECKING:
    from sites.client import BrokerClient


@dataclass(frozen=True, slots=True)
class Session:
    """
    What a site needs to talk to its broker. A context manager: leaving it hangs up.

    Objects that travel bind (study, sender, recipient, purpose, subject), where the subject is
    the release, question or delivery that they belong to.
    """

    site: SiteConfig
    vault: Vault
    signed: SignedStudy
    identity: Identity
    broker: BrokerClient

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.broker.__exit__(kind, fault, at)

    @property
    def heads(self) -> KeptHeads:
        """The heads of the broker's audit log that this site keeps."""
        return kept_heads(self.vault, self.signed)

    @property
    def party(self) -> str:
        """This site's party id."""
        return self.site.party

    @property
    def uploader(self) -> str:
        """Who acts here: the contributor where the site file names one, else the party."""
        return self.site.uploader

    @property
    def study_id(self) -> str:
        """The study's ID."""
        return self.signed.study.study.id

    def require_commons(self) -> None:
        """Raises NotAllowed at a contributor."""
        if self.site.contributor:
            raise NotAllowed(
                f"{self.uploader!r} tokenizes for {self.party!r} and receives nothing itself",
                hint=f"the commons {self.party!r} asks for IDs, questions and deliveries",
            )

    def receive(
        self, purpose: str, *, subject: str = "", sender: str = BROKER
    ) -> tuple[str, bytes]:
        """
        Return (subject, opened bytes) of the newest object of `purpose` that waits for this site.

        Raises NotFound where none waits, PackageRefused where it was not sealed by `sender` for
        this site and subject, NotAllowed at a contributor: the commons alone receives.
        """
        self.require_commons()
        waiting = self.broker.inbox(self.study_id, purpose=purpose, subject=subject)
        if not waiting:
            raise NotFound(
                f"nothing of the kind {purpose!r} waits for {self.party!r} at the broker",
                hint="ask the broker admin whether it was prepared for this party, or try later",
            )
        item = waiting[-1]
        opened = unseal(
            self.broker.fetch(self.study_id, item),
            sender=self.signed.pin(sender),
            recipient=self.identity,
            context=Context(self.study_id, sender, self.party, purpose, (item.subject,)),
        )
        return item.subject, opened

    def send(self, recipient: str, purpose: str, subject: str, data: bytes) -> None:
        """Seal `data` to another party and hand it to the broker, which cannot open it."""
        sealed = seal(
            data,
            sender=self.identity,
            recipient=self.signed.pin(recipient),
            context=Context(self.study_id, self.uploader, recipient, purpose, (subject,)),
        )
        self.broker.relay(self.study_id, recipient, purpose, subject, sealed)


def session_of(site_file: Path, *, expired_too: bool = False) -> Session:
    """
    Return the session of a site file. Raises SiteRefused if it names no broker, KeyRefused.

    expired_too: also after the study's last day, for what takes back or only reads.
    """
    site = load_site(site_file)
    if site.broker is None:
        raise SiteRefused(
            file=str(site_file),
            line=0,
            key="broker",
            rule="names no broker",
            hint='add [broker] with url = "https://..."',
        )
    vault, signed = trusted_study(site, expired_too=expired_too)
    identity = vault.identity()
    require_actor(site, signed.study, site_file)
    require_own_keys(signed, site.uploader, identity)
    from sites.client import BrokerClient  # what tokenizes talks to nobody

    subject = f"{signed.study.study.id}/{site.uploader}"
    client = BrokerClient(
        site.broker.url,
        subject,
        identity,
        audience=site.broker.audience,
        heads=kept_heads(vault, signed),
    )
    return Session(site, vault, signed, identity, client)


def kept_heads(vault: Vault, signed: SignedStudy) -> KeptHeads:
    """Return where this site keeps the heads of the audit log of the study's broker."""
    return KeptHeads(vault.folder / HEADS, signed.pin(BROKER))


def trusted_study(site: SiteConfig, *, expired_too: bool = False) -> tuple[Vault, SignedStudy]:
    """Return a site's vault and the signed study in it, which its custodian signed: KeyRefused."""
    vault = Vault(site.private, site.keys)
    custodian = site.broker.custodian if site.broker else None
    return vault, vault.signed_study(custodian, expired_too=expired_too)


def require_actor(site: SiteConfig, study: StudyConfig, site_file: Path) -> None:
    """Raises SiteRefused unless the study has this party and, for it, this contributor."""
    party = next((p for p in study.party if p.id == site.party), None)
    fault, key, hint = "", "party", f"the study's parties: {', '.join(p.id for p in study.party)}"
    if party is None:
        fault = f"{site.party!r} is no party of the study"
    elif site.contributor and site.contributor not in party.contributors:
        fault, key = f"{site.contributor!r} is no contributor of {party.id!r}", "contributor"
        hint = f"its contributors: {', '.join(party.contributors) or 'none, drop the line'}"
    if fault:
        raise SiteRefused(file=str(site_file), line=0, key=key, rule=fault, hint=hint)


def require_tokenizer(site: SiteConfig, study: StudyConfig, site_file: Path) -> None:
    """Raises SiteRefused unless who this site file names tokenizes in the study."""
    require_actor(site, study, site_file)
    party = study.party_named(site.party)
    if party.contributors and not site.contributor:
        raise SiteRefused(
            file=str(site_file),
            line=0,
            key="contributor",
            rule=f"is missing: {party.id!r} does not tokenize itself, its contributors do",
            hint=f"a contributor names itself here, one of {', '.join(party.contributors)}; the"
            " commons needs status and ids only",
        )
