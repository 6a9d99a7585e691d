"""The verdict of the release gate is computed from figures, and names figure, limit, remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from linkage.certificate import (
    KNOWN_SHARE,
    LEAST_DRAWS,
    LEAST_PEOPLE,
    MOST_CORRELATION,
    MOST_REIDENTIFIED,
    MOST_UNIQUE,
    PLAIN_AT_LEAST,
    GateCertificate,
    declared_size,
    study_shape,
)
from linkage.errors import PackageRefused, StudyRefused
from linkage.messages import BROKER, CUSTODIAN
from linkage.schema import schema_hash
from linkage.signed_study import SignedStudy, sign_study
from linkage.study import StudyConfig, parse_study
from tests.studies import EXCEPTION, STUDY, Cast, cast, certified, excepted

SECOND_CLK = STUDY[STUDY.index("[[clk]]") : STUDY.index("[[match_key]]")].replace(
    "name-dob-sex", "second"
)
STUDY_OF_TWO = STUDY + SECOND_CLK
SIZE = 200_000
PLAIN = 'profile = "clkhash"\naccept_graph_matching_risk = true\npurpose'


def passing(study: StudyConfig) -> GateCertificate:
    made = certified(study)
    assert made is not None
    return made


def changed(made: GateCertificate, **how: Any) -> GateCertificate:
    """Return a certificate with other figures: those of `GateFigures` go to the first of them."""
    figures = made.figures
    inner = {key: how.pop(key) for key in list(how) if key in type(figures[0]).model_fields}
    raw = made.model_dump() | how
    if inner and "figures" not in how:
        raw["figures"] = [raw["figures"][0] | inner, *raw["figures"][1:]]
    return GateCertificate.model_validate(raw)


def test_figures_within_the_limits_pass() -> None:
    study = parse_study(STUDY)
    assert passing(study).reasons(study) == []
    assert passing(study).passed(study)
    assert declared_size(study) == SIZE


@pytest.mark.parametrize(
    ("how", "figure", "limit", "remedy"),
    [
        ({"correlation": 0.151}, "clk:name-dob-sex: correlation", "at most 0.15", "--choose"),
        ({"correlation": -0.2}, "-0.200", "at most 0.15", "diffusion"),
        ({"seeded": 0.0101}, "1.01% re-identified at 4,000", "at most 1%", "diffusion"),
        ({"predicted_seeded": 0.2}, "20.00% re-identified predicted", "at most 1%", "diffusion"),
        ({"holds_up_to": SIZE - 1}, "holds up to 199,999", "declares 200,000", "declare fewer"),
        ({"unique_by_structure": 0.0011}, "0.110% of records", "at most 0.1%", "drop rules"),
        ({"combined_reidentified": 0.02}, "together: 2.00%", "at most 1%", "drop rules"),
        ({"plain_reidentified": 0.94}, "94.00% from plain", "needed 95%", "other people"),
        ({"plain_n": 1_999}, "on plain CLKs: 1,999", "needed 2,000", "without --n"),
        ({"n": 1_999}, "people measured: 1,999", "needed 2,000", "without --n"),
        ({"draws": 4}, "key draws: 4", "needed 5", "without --draws"),
        ({"known_share": 0.04}, "4.00% of the people", "needed 5%", "linkage attack"),
        ({"structure_people": 99_999}, "structure: 99,999", "needed 100,000", "linkage attack"),
        ({"figures": ()}, "clk:name-dob-sex: not measured", "not measured", "linkage attack"),
        ({"records": SIZE - 1}, "for 199,999 records", "declares 200,000", "linkage attack"),
        ({"schema_hash": "0" * 64}, "encodings 0000", "older than the schema", "linkage attack"),
        ({"study_shape": "0" * 64}, "parties or their fields", "changed", "linkage attack"),
        ({"study_id": "other-study"}, "'other-study'", "'small-study'", "linkage attack"),
        ({"epoch": 2}, "epoch 2", "epoch 1", "linkage attack"),
    ],
)
def test_every_reason_names_figure_limit_and_remedy(
    how: dict[str, Any], figure: str, limit: str, remedy: str
) -> None:
    study = parse_study(STUDY)
    spoilt = changed(passing(study), **how)
    found = [reason for reason in spoilt.reasons(study) if figure in reason]
    assert len(found) == 1, spoilt.reasons(study)
    assert limit in found[0]
    assert remedy in found[0]
    assert not spoilt.passed(study)


def test_nothing_is_said_of_a_size_that_nobody_declared() -> None:
    study = parse_study(STUDY)
    parties = tuple(party.model_copy(update={"records": None}) for party in study.party)
    silent = study.model_copy(update={"party": parties})
    spoilt = changed(passing(study), records=0, predicted_seeded=0.2)
    (reason,) = spoilt.reasons(silent)
    assert reason.startswith("the study declares no size")
    # Where the study does declare one, a certificate for none is refused for that.
    (reason,) = spoilt.reasons(study)
    assert reason.startswith("it is for 0 records")


def test_what_is_exactly_at_a_limit_passes() -> None:
    study = parse_study(STUDY)
    at_limits = changed(
        passing(study),
        correlation=MOST_CORRELATION,
        seeded=MOST_REIDENTIFIED,
        predicted_seeded=MOST_REIDENTIFIED,
        holds_up_to=SIZE,
        unique_by_structure=MOST_UNIQUE,
        combined_reidentified=MOST_REIDENTIFIED,
        plain_reidentified=PLAIN_AT_LEAST,
        plain_n=LEAST_PEOPLE,
        n=LEAST_PEOPLE,
        draws=LEAST_DRAWS,
        known_share=KNOWN_SHARE,
        structure_people=100_000,
        records=SIZE,
    )
    assert at_limits.reasons(study) == []


@pytest.mark.parametrize("figure", ["correlation", "seeded", "predicted_seeded"])
def test_no_figure_is_a_number_that_compares_with_nothing(figure: str) -> None:
    with pytest.raises(ValidationError):
        changed(passing(parse_study(STUDY)), **{figure: float("nan")})


def test_a_certificate_of_a_lower_epoch_does_not_hold() -> None:
    """The broker then has more epochs to average over."""
    later = parse_study(STUDY.replace("[study]", "[study]\nepoch = 2"))
    (reason,) = changed(passing(later), epoch=1).reasons(later)
    assert "for epoch 1, this is epoch 2" in reason


def test_every_clk_and_all_clks_of_a_party_must_be_measured() -> None:
    study = parse_study(STUDY_OF_TWO)
    made = passing(study)
    assert made.reasons(study) == []
    for missing in ("clk:second", "party:alpha", "party:beta"):
        rest = [one for one in made.model_dump()["figures"] if one["evidence"] != missing]
        (reason,) = changed(made, figures=rest).reasons(study)
        assert reason.startswith(f"{missing}: not measured")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bits = 140 },", "bits = 120 },"),
        ('id = "name-dob-sex"', 'id = "name-dob-sex"\ndiffusion = 9'),
        ('id = "sound-dob"', 'id = "other-dob"'),
        ('"first_name:initial", ', ""),
        ('"sex", "zip"]', '"sex"]'),
        ("records = 100_000", "records = 100_001"),
        ("[study]", "[study]\nfill_nulls = false"),
    ],
)
def test_a_study_changed_after_it_was_measured_does_not_pass(old: str, new: str) -> None:
    made = passing(parse_study(STUDY))
    assert old in STUDY
    after = parse_study(STUDY.replace(old, new))
    assert len(made.reasons(after)) >= 1


def test_what_leaks_nothing_may_change() -> None:
    """Title, purpose and who receives IDs are no matter of the gate; fewer records neither."""
    made = passing(parse_study(STUDY))
    for old, new in (
        ('title = "A small', 'title = "Another'),
        ('["alpha", "beta"]', '["beta"]'),
        ("records = 100_000", "records = 99_999"),
    ):
        assert made.passed(parse_study(STUDY.replace(old, new)))


def test_plain_clks_pass_on_no_certificate() -> None:
    plain = parse_study(STUDY.replace("purpose", PLAIN, 1))
    (reason,) = passing(plain).reasons(plain)
    assert "plain CLKs fall to graph matching" in reason


def test_a_study_that_declares_no_size_cannot_pass() -> None:
    study = parse_study(STUDY.replace("records = 100_000\n", "", 1))
    assert declared_size(study) is None
    made = passing(parse_study(STUDY))
    (reason,) = made.reasons(study)
    assert "records = N" in reason


def test_the_declared_size_is_that_of_the_clk_with_the_most_records() -> None:
    zips = SECOND_CLK.replace('{ field = "sex", bits = 40 }', '{ field = "zip" }')
    study = parse_study(STUDY + zips)
    assert declared_size(study) == SIZE, "beta alone computes the other"
    assert study_shape(study) == study_shape(parse_study(STUDY))


# Within the signed study


def sign(text: str, certificate: GateCertificate | None, everyone: Cast) -> SignedStudy:
    study = parse_study(text)
    return sign_study(
        text,
        {name: one.public() for name, one in everyone.identities.items() if name != CUSTODIAN},
        schema_hash=schema_hash(study),
        key_check=everyone.key.key_check(study),
        custodian=everyone.identities[CUSTODIAN],
        certificate=certificate,
    )


EVERYONE = cast()


def test_a_study_is_signed_only_if_it_passes_or_says_why_not() -> None:
    study = parse_study(STUDY)
    good = passing(study)
    assert sign(STUDY, good, EVERYONE).release_gate == "passed for 200,000 people (2026-11-21)"
    with pytest.raises(StudyRefused, match="no release-gate certificate") as refused:
        sign(STUDY, None, EVERYONE)
    assert "linkage attack study.toml --out gate" in refused.value.hint
    assert "release_gate_exception" in refused.value.hint
    bad = changed(good, correlation=0.4, draws=1)
    with pytest.raises(StudyRefused, match=r"\(1\) key draws: 1.*\(2\) clk:name-dob-sex"):
        sign(STUDY, bad, EVERYONE)
    for certificate in (None, bad):
        signed = sign(excepted(STUDY), certificate, EVERYONE)
        assert signed.release_gate == f"EXCEPTION: {EXCEPTION}"
        assert signed.gate_reasons
    plain = sign(STUDY.replace("purpose", PLAIN, 1), None, EVERYONE)
    assert plain.release_gate.startswith("EXCEPTION: plain CLKs")


def test_a_rehearsal_needs_none_and_says_so() -> None:
    rehearsed = cast(rehearsal=True).signed
    assert rehearsed.certificate is None
    rehearsed.require_gate()
    assert "no release-gate certificate" in rehearsed.release_gate


def test_the_verdict_is_computed_anew_by_whoever_reads() -> None:
    """A custodian who signs past this software convinces nobody."""
    signed = EVERYONE.signed
    assert signed.certificate is not None
    custodian = EVERYONE.identities[CUSTODIAN]
    bad = changed(signed.certificate, correlation=0.4)
    forced = signed.model_copy(update={"certificate": bad}).sign(custodian)
    forced.check()
    assert forced.release_gate.startswith("NOT PASSED: clk:name-dob-sex")
    with pytest.raises(StudyRefused, match="correlation"):
        forced.require_gate()


@pytest.mark.parametrize("how", [{"correlation": 0.01}, {"records": 10**6}, {"date": "2027-01-01"}])
def test_a_certificate_changed_in_the_signed_study_breaks_the_signature(
    how: dict[str, Any],
) -> None:
    signed = EVERYONE.signed
    assert signed.certificate is not None
    signed.check()
    for other in (changed(signed.certificate, **how), None):
        with pytest.raises(PackageRefused):
            signed.model_copy(update={"certificate": other}).check()


def test_a_study_signed_before_there_was_a_gate_still_verifies_and_does_not_pass() -> None:
    custodian = EVERYONE.identities[CUSTODIAN]
    raw = EVERYONE.signed.model_dump(mode="json")
    del raw["certificate"], raw["signature"]
    old = SignedStudy.model_validate(raw)
    assert b"certificate" not in old.signed_bytes(), "what was signed before is what it was"
    again = SignedStudy.model_validate_json(old.sign(custodian).model_dump_json())
    assert again.check().study.id == "small-study"
    assert again.pin(BROKER).name == BROKER
    assert again.release_gate == "NOT PASSED: it has no release-gate certificate"
    with pytest.raises(StudyRefused):
        again.require_gate()
