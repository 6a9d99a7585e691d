"""What must hold before a site encodes: its keys are the study's, and the study may be used."""

from __future__ import annotations

from linkage.errors import KeyRefused, SourceRefused
from linkage.signed_study import SignedStudy, require_same_encodings
from linkage.study import StudyConfig
from sites import custody
from sites.vault import Vault


def require_keys(signed: SignedStudy, uploader: str, vault: Vault) -> None:
    """
    Raise KeyRefused unless this site's keys are those of the signed study, StudyRefused unless that
    passes the release gate or says openly why it need not.
    """
    study, key, identity = signed.study, vault.study_key(), vault.identity()
    require_same_encodings(signed)
    signed.require_gate()
    custody.require_own_keys(signed, uploader, identity)
    if key.key_check(study) != signed.key_check:
        raise KeyRefused(
            "the study key is not the one of this signed study",
            hint="open the sealed key that the custodian sent with it: linkage-site keys open",
        )
    party = study.party_of_uploader(uploader)
    if not study.clks_of(party) and not study.rules_of(party):
        raise SourceRefused(
            file="the study",
            rule=f"party {party.id!r} holds no CLK's and no match key's fields",
            hint="ask the custodian for a study that uses what you hold",
        )


def require_declared(study: StudyConfig, uploader: str, records: int) -> None:
    """Raise SourceRefused where the party would hold more records than the study declares."""
    party = study.party_of_uploader(uploader)
    if party.records is not None and records > party.records:
        raise SourceRefused(
            file="the source",
            rule=f"holds {records:,} records, the study declares at most {party.records:,} for"
            f" {party.id!r}, and was measured for no more",
            hint="leave records out, or ask the custodian to raise records in the study file, run"
            " `linkage attack` again and sign the next epoch",
        )
