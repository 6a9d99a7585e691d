"""Small studies, identities and site folders that tests share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from linkage.encoding.keys import StudyKey
from linkage.messages import BROKER, CUSTODIAN
from linkage.schema import schema_hash
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy, sign_study
from linkage.study import parse_study
from sites.vault import Vault

STUDY = """\
[study]
id = "small-study"
title = "A small study"
purpose = "To test with"
release_to = ["alpha", "beta"]

[[party]]
id = "alpha"
kind = "imaging"
fields = ["first_name", "last_name", "date_of_birth", "sex"]

[[party]]
id = "beta"
kind = "enclave"
fields = ["first_name", "last_name", "date_of_birth", "sex", "zip"]

[[clk]]
id = "name-dob-sex"
fields = [
    { field = "first_name" },
    { field = "last_name" },
    { field = "date_of_birth", bits = 140 },
    { field = "sex", bits = 40 },
]

[[match_key]]
id = "first-last-dob"
fields = ["first_name", "last_name", "date_of_birth"]

[[match_key]]
id = "sound-dob"
fields = ["first_name:initial", "last_name:sound", "date_of_birth"]
"""


@dataclass(frozen=True, slots=True)
class Cast:
    """Everyone of the small study, with their keys."""

    signed: SignedStudy
    key: StudyKey
    identities: dict[str, Identity]


def cast(text: str = STUDY, *, rehearsal: bool = False) -> Cast:
    """Make keys for everyone in the study `text` and sign it."""
    study = parse_study(text)
    names = [BROKER, CUSTODIAN, *study.actors]
    identities = {name: Identity.generate(name, kem="X25519") for name in names}
    key = StudyKey.generate()
    signed = sign_study(
        text,
        {name: identities[name].public() for name in names if name != CUSTODIAN},
        schema_hash=schema_hash(study),
        key_check=key.key_check(study),
        custodian=identities[CUSTODIAN],
        rehearsal=rehearsal,
    )
    return Cast(signed, key, identities)


def vault_of(everyone: Cast, party: str, folder: Path) -> Vault:
    """Return the private folder of a party with everything in it that tokenizing needs."""
    vault = Vault(folder)
    everyone.identities[party].save(vault.identity_file)
    everyone.key.save(vault.study_key_file)
    vault.signed_study_file.write_text(everyone.signed.model_dump_json(), encoding="utf-8")
    return vault
