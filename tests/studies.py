"""Small studies, identities and site folders that tests share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from linkage.certificate import GateCertificate, GateFigures, declared_size, study_shape
from linkage.encoding.keys import StudyKey
from linkage.messages import BROKER, CUSTODIAN
from linkage.records import Bytes2D
from linkage.schema import schema_hash
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy, sign_study
from linkage.study import StudyConfig, parse_study
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
records = 100_000
fields = ["first_name", "last_name", "date_of_birth", "sex"]

[[party]]
id = "beta"
kind = "enclave"
records = 100_000
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


EXCEPTION = "a study of the tests, on nobody's records"


def certified(study: StudyConfig) -> GateCertificate | None:
    """
    Return a certificate with which `study` passes the release gate, its figures made up; None
    where the study declares no size, and so cannot pass.
    """
    size = declared_size(study)
    if size is None:
        return None
    evidence = [f"clk:{one.id}" for one in study.clk]
    evidence += [f"party:{one.id}" for one in study.party if study.clks_of(one)]
    figures = tuple(
        GateFigures(
            evidence=one,
            correlation=0.05,
            attacker_correlation=0.12,
            seeded=0.001,
            predicted_seeded=0.002,
            holds_up_to=10 * size,
        )
        for one in evidence
    )
    return GateCertificate(
        study_id=study.study.id,
        epoch=study.study.epoch,
        schema_hash=schema_hash(study),
        study_shape=study_shape(study),
        software="tests",
        people="made up",
        n=4_000,
        draws=5,
        known_share=0.05,
        records=size,
        date="2026-11-21",
        plain_reidentified=0.99,
        plain_n=2_000,
        figures=figures,
        unique_by_structure=0.0002,
        structure_people=1_000_000,
        combined_reidentified=0.001,
    )


def excepted(text: str) -> str:
    """Return the study file `text` with an exception from the release gate."""
    line = f'[study]\nrelease_gate_exception = "{EXCEPTION}"'
    assert text.count("[study]") == 1
    return text.replace("[study]", line)


@dataclass(frozen=True, slots=True)
class Cast:
    """Everyone of the small study, with their keys."""

    signed: SignedStudy
    key: StudyKey
    identities: dict[str, Identity]


def cast(text: str = STUDY, *, rehearsal: bool = False) -> Cast:
    """
    Make keys for everyone in the study `text` and sign it, with a certificate that passes where it
    declares sizes. Else it needs an exception, or to be a rehearsal.
    """
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
        certificate=None if rehearsal else certified(study),
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


def save_map(vault: Vault, dataset: int, names: Bytes2D, record_ids: list[str]) -> None:
    """Write the map of a dataset version, as tokenizing does; names: its record pseudonyms."""
    folder = vault.folder / f".map-{dataset}.making"
    vault.write_map_chunk(folder, dataset, 1, names, pa.array(record_ids, pa.string()))
    vault.finish_map(folder, dataset, 1)
