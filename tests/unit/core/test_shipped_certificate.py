"""The example's certificate is that of the example's study. `make gate` renews it."""

from __future__ import annotations

from pathlib import Path

from linkage.certificate import GateCertificate
from linkage.schema import schema_hash
from linkage.study import load_study

SHIPPED = Path(__file__).parents[3] / "configs" / "three-commons"


def test_the_shipped_study_passes_the_release_gate_on_its_own_certificate() -> None:
    study = load_study(SHIPPED / "study.toml")
    shipped = GateCertificate.model_validate_json((SHIPPED / "certificate.json").read_bytes())
    assert shipped.schema_hash == schema_hash(study), "measured before a change: run `make gate`"
    assert shipped.reasons(study) == []
