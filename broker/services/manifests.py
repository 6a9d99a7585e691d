"""What a manifest must be before a single part is taken; the order of the checks is fixed."""

from __future__ import annotations

from collections.abc import Mapping

from broker.config import Limits
from broker.registered import RegisteredStudy
from linkage.errors import KeyRefused, NotAllowed, PackageRefused, TooLarge
from linkage.messages import Manifest
from linkage.strata import attested

DENSITIES = (0.10, 0.55)
"""Share of set bits before diffusion, ends included: docs/threat-model.md, schema lint."""


def check_manifest(manifest: Manifest, study: RegisteredStudy, caller: str, limits: Limits) -> None:
    """
    Check, in this order: uploader, signature, study, epoch, normalisation, encodings, key,
    densities, names, strata, parts, caps, declared size.

    Raises NotAllowed, PackageRefused, KeyRefused or TooLarge, each naming what to do.
    """
    party = study.config.party_of_uploader(caller)
    if (manifest.party, manifest.uploader) != (party.id, caller):
        raise NotAllowed(
            f"{caller!r} may not upload for another party",
            hint=f"it uploads for {party.id!r}; check party and contributor in the site file",
        )
    manifest.verify(study.pin(caller))
    epoch = study.config.study.epoch
    if manifest.study_id == study.id and manifest.epoch != epoch:
        raise PackageRefused(
            f"the manifest is of epoch {manifest.epoch}, the study of {epoch}",
            hint="take the newest signed study and sealed key from the custodian, open the key"
            " with `linkage-site keys open`, tokenize again",
        )
    if (manifest.study_id, manifest.study_hash) != (study.id, study.study_hash):
        raise PackageRefused(
            "the manifest belongs to another study: wrong study",
            hint="tokenize again with the signed study file that this broker has; what differs"
            " shows `linkage-site study compare`",
        )
    if study.signed.normalisation not in ("", manifest.normalisation):
        raise PackageRefused(
            f"the values were normalised by version {manifest.normalisation} of the rules, the"
            f" study is signed for version {study.signed.normalisation}",
            hint="install the same software version at all sites, then tokenize again",
        )
    if manifest.schema_hash != study.signed.schema_hash:
        raise PackageRefused(
            "the encodings were made by another linkage schema, with software version"
            f" {manifest.software}",
            hint="install the same software version at all sites, tokenize again with the signed"
            " study file; `linkage-site study compare` shows what differs between two of them",
        )
    if manifest.key_check != study.signed.key_check:
        raise KeyRefused(
            "wrong study key: the encodings would match nothing",
            hint="open the study key that the custodian sealed for this study, tokenize again",
        )
    _check_names(manifest, study)
    _check_strata(manifest, study)
    _check_parts(manifest, limits)
    require_declared(manifest, study, elsewhere={})


def require_declared(
    manifest: Manifest, study: RegisteredStudy, *, elsewhere: Mapping[str, int]
) -> None:
    """
    Raises TooLarge where a party would have more records here than the study declares: the release
    gate measured for no more. elsewhere: records of the party's other uploaders, by their name.
    """
    most = study.config.party_named(manifest.party).records
    if most is None or manifest.records + sum(elsewhere.values()) <= most:
        return
    others = " with those of its other contributors" if elsewhere else ""
    raise TooLarge(
        f"party {manifest.party!r} would have more records here{others} than the {most:,} that the"
        " study declares, and was measured for no more",
        hint="upload fewer, or ask the custodian to raise records in the study file, run `linkage"
        " attack` again and sign the next epoch",
    )


def _check_names(manifest: Manifest, study: RegisteredStudy) -> None:
    low, high = DENSITIES
    for density in manifest.densities.values():
        if density and not low <= density <= high:  # 0: no record has this CLK
            raise PackageRefused(
                f"a CLK of the dataset sets {density:.4f} of its bits; {low} to {high} are safe",
                hint="change bits or length in the study file; too many fields may be missing",
            )
    party = study.config.party_named(manifest.party)
    clks = {c.id for c in study.config.clks_of(party)}
    rules = {r.id for r in study.config.rules_of(party)}
    if set(manifest.densities) != clks:
        raise PackageRefused(
            "the manifest's CLKs are not those of the study for this party",
            hint=f"they are: {', '.join(sorted(clks)) or 'none'}",
        )
    if not set(manifest.collisions) | set(manifest.null_reasons) <= rules:
        raise PackageRefused(
            "the manifest names match-key rules that the study does not have for this party",
            hint=f"they are: {', '.join(sorted(rules)) or 'none'}",
        )


def _check_strata(manifest: Manifest, study: RegisteredStudy) -> None:
    """A dataset bears no marks, or those of the study: its variables, groups and epsilons."""
    if manifest.strata and manifest.strata != attested(study.config.strata):
        raise PackageRefused(
            "the marks of the dataset are not those of the study's [[strata]]",
            hint="tokenize again with the signed study file and this software version",
        )


def _check_parts(manifest: Manifest, limits: Limits) -> None:
    if [part.number for part in manifest.parts] != list(range(1, len(manifest.parts) + 1)):
        raise PackageRefused(
            "the manifest's parts are not numbered 1, 2, 3 and so on", hint="submit again"
        )
    if manifest.base >= manifest.dataset:
        raise PackageRefused(
            f"a delta to dataset version {manifest.base} cannot be version {manifest.dataset}",
            hint="tokenize again",
        )
    if sum(part.records for part in manifest.parts) != manifest.rows:
        raise PackageRefused(
            "the records of the parts do not add up to those of the dataset", hint="submit again"
        )
    if not 1 <= manifest.groups <= manifest.records:
        raise PackageRefused("the manifest has more groups than records", hint="submit again")
    if sum(part.size for part in manifest.parts) > limits.dataset_bytes:
        raise TooLarge(
            f"the dataset is larger than {limits.dataset_bytes} bytes",
            hint="ask the broker's admin to raise limits.dataset_bytes",
        )
    if max(manifest.records, manifest.rows) > limits.dataset_records:
        raise TooLarge(
            f"the dataset has more than {limits.dataset_records} records",
            hint="ask the broker's admin to raise limits.dataset_records",
        )
