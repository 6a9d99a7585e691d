"""
The signed study: the study file, and everyone's public keys, under the custodian's signature.

    signed = sign_study(text, pins, key_check=..., custodian=identity, rehearsal=False)
    study = signed.checked(custodian_fingerprint="...")

Broker and sites use this one file. Who relays it cannot put in a key of its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

from pydantic import Field, ValidationError

from linkage import fingerprints
from linkage.certificate import GateCertificate
from linkage.errors import KeyRefused, NotFound, PackageRefused, SchemaRefused, StudyRefused
from linkage.messages import (
    BROKER,
    CUSTODIAN,
    Deactivation,
    Hex128,
    Hex256,
    SignedMessage,
)
from linkage.schema import NORMALISATION_VERSION, schema_hash
from linkage.sealing import Identity, PublicIdentity
from linkage.study import StudyConfig, parse_study

GATE_REMEDY = (
    "the custodian runs `linkage attack study.toml --out gate` and signs with `linkage-site study"
    " sign ... --certificate gate/certificate.json`, or says in the study file why it may run"
    ' without: release_gate_exception = "..." under [study], which every party sees'
)


class SignedStudy(SignedMessage):
    """
    study_toml: the study file, letter for letter. schema_hash: of its encodings.
    key_check: proves, without showing it, which study key belongs to it.
    pins: public identities by party id, contributor id, "broker" and "custodian".
    normalisation: version of the rules for field values; "" in studies signed before it was kept.
    rehearsal: everything on one machine; one installation may then play every part.
    certificate: of the release gate; None where the file holds an exception, in rehearsals, and in
    studies signed before there was a gate.
    """

    study_toml: str
    schema_hash: Hex256
    key_check: Hex128
    pins: dict[str, PublicIdentity]
    rehearsal: bool = False
    normalisation: str = Field(default="", max_length=20)

    certificate: GateCertificate | None = None

    added: ClassVar[frozenset[str]] = frozenset({"normalisation", "certificate"})

    @property
    def study(self) -> StudyConfig:
        """The study file, parsed. Raises StudyRefused."""
        return parse_study(self.study_toml, file="signed study")

    @property
    def study_hash(self) -> str:
        """SHA-256, hex, of what the custodian signed; every party compares it."""
        return hashlib.sha256(self.signed_bytes()).hexdigest()

    def pin(self, name: str) -> PublicIdentity:
        """Return the pinned keys of a party, "broker" or "custodian". Raises NotFound."""
        if name not in self.pins:
            raise NotFound(f"the signed study pins no keys of {name!r}", hint="check the name")
        return self.pins[name]

    @property
    def exception(self) -> str:
        """Why the study may run though no certificate passes, in words that are signed; or ""."""
        header = self.study.study
        if header.release_gate_exception:
            return header.release_gate_exception
        if header.accept_graph_matching_risk and header.profile == "clkhash":
            return "plain CLKs, which fall to graph matching (accept_graph_matching_risk = true)"
        return ""

    @property
    def gate_reasons(self) -> list[str]:
        """Why the study does not pass the release gate, its exception apart; empty: it passes."""
        if self.certificate is None:
            return ["it has no release-gate certificate"]
        return self.certificate.reasons(self.study, schema=self.schema_hash)

    @property
    def release_gate(self) -> str:
        """The verdict in a line, for everyone who uses the study."""
        reasons = self.gate_reasons
        if self.certificate is not None and not reasons:
            return f"passed for {self.certificate.records:,} people ({self.certificate.date})"
        if self.exception:
            return f"EXCEPTION: {self.exception}"
        if self.rehearsal and self.certificate is None:
            return "no release-gate certificate; enough for a rehearsal only"
        return f"NOT PASSED: {reasons[0]}"

    def require_gate(self) -> None:
        """
        Raises StudyRefused, with every reason, unless the study passes the release gate, its file
        holds an exception, or it is a rehearsal, which links nobody's records.

        Whoever encodes asks, and whoever takes encodings: what the gate guards against is whoever
        holds them.
        """
        if self.rehearsal or self.exception or not (reasons := self.gate_reasons):
            return
        raise StudyRefused(
            file="signed study",
            line=0,
            key="certificate",
            rule=f"the study does not pass the release gate: {_numbered(reasons)}",
            hint=GATE_REMEDY,
        )

    def check(self, *, custodian_fingerprint: str | None = None) -> StudyConfig:
        """
        Verify the signed study and return the study file. Steps:

        1. the study file is itself acceptable; 2. exactly its parties, contributors, the broker and
        the custodian are pinned, each under its own name; 3. the custodian signed it; 4. its
        fingerprint is the one compared by telephone, where given; 5. no keys serve two actors,
        and custodian and broker differ, rehearsals excepted.

        Raises StudyRefused or PackageRefused.
        """
        study = self.study
        wanted = {BROKER, CUSTODIAN, *study.actors}
        if set(self.pins) != wanted or any(pin.name != name for name, pin in self.pins.items()):
            raise _refused(
                "it does not pin exactly its parties, contributors, the broker and the custodian"
            )
        self.verify(self.pin(CUSTODIAN))
        if custodian_fingerprint:
            fingerprints.compare(custodian_fingerprint, self.pin(CUSTODIAN).fingerprint, CUSTODIAN)
        for keys in ("signing", "sealing"):
            held = {getattr(pin, keys) for pin in self.pins.values()}
            if not self.rehearsal and len(held) != len(self.pins):
                raise _refused("two actors have the same keys; only a rehearsal may play two parts")
        return study


def sign_study(
    text: str,
    pins: dict[str, PublicIdentity],
    *,
    schema_hash: str,
    key_check: str,
    custodian: Identity,
    certificate: GateCertificate | None = None,
    rehearsal: bool = False,
    normalisation: str = NORMALISATION_VERSION,
    file: str = "study.toml",
) -> SignedStudy:
    """
    Check the study file's text and sign it with everyone's pins. Raises StudyRefused, also where
    the release gate is not passed and the file makes no exception.

    normalisation: what every site must tokenize with; by default that of this software.
    """
    parse_study(text, file=file)
    made = SignedStudy(
        study_toml=text,
        schema_hash=schema_hash,
        key_check=key_check,
        pins={**pins, CUSTODIAN: custodian.public()},
        rehearsal=rehearsal,
        normalisation=normalisation,
        certificate=certificate,
    )
    made.require_gate()
    made = made.sign(custodian)
    made.check()
    return made


def check_deactivation(notice: Deactivation, signed: SignedStudy) -> None:
    """
    Raises PackageRefused unless the custodian of `signed` signed `notice` about its study key.
    """
    notice.verify(signed.pin(CUSTODIAN))
    header = signed.study.study
    named = (notice.study_id, notice.epoch, notice.key_check)
    if named != (header.id, header.epoch, signed.key_check):
        raise PackageRefused(
            f"the notice is about epoch {notice.epoch} of another study or key; this is epoch"
            f" {header.epoch}",
            hint="give the signed study and the notice of the same epoch",
        )


def require_same_encodings(signed: SignedStudy) -> None:
    """
    Raises SchemaRefused where this software would encode otherwise than the custodian signed.

    Checked before any key: the key-check value depends on the schema hash, and a wrong software
    version would look like a wrong key.
    """
    if signed.normalisation not in ("", NORMALISATION_VERSION):
        raise SchemaRefused(
            f"the study is signed for version {signed.normalisation} of the normalisation, this"
            f" software has version {NORMALISATION_VERSION}",
            hint="install the same software version at all sites, custodian included",
        )
    if schema_hash(signed.study) != signed.schema_hash:
        raise SchemaRefused(
            "this software makes other encodings of the study than the custodian's did",
            hint="install the same software version at all sites, custodian included",
        )


def load_signed_study(path: Path, *, custodian_fingerprint: str | None = None) -> SignedStudy:
    """Read and check a signed study. Raises StudyRefused, PackageRefused or KeyRefused."""
    try:
        signed = SignedStudy.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise KeyRefused(
            f"{path} cannot be read: there is no such file", hint="check the path"
        ) from None
    except OSError as fault:
        raise KeyRefused(
            f"{path} cannot be read ({type(fault).__name__})", hint="check the path"
        ) from None
    except ValidationError:
        raise _refused(f"{path.name} is no signed study") from None
    signed.check(custodian_fingerprint=custodian_fingerprint)
    return signed


def _numbered(reasons: list[str]) -> str:
    if len(reasons) == 1:
        return reasons[0]
    return "; ".join(f"({i}) {reason}" for i, reason in enumerate(reasons, start=1))


def _refused(rule: str) -> StudyRefused:
    return StudyRefused(
        file="signed study",
        line=0,
        key="",
        rule=rule,
        hint="the custodian makes it with `linkage-site study sign`",
    )
