"""
A site's private folder: its keys, the contributor's secret, the map of record ids, packages.

    identity.key        signing and sealing keys          `linkage-site keys identity`
    contributor.secret  makes the record pseudonyms       made at the first tokenize
    study.key           the study key, after opening      `linkage-site keys open`
    signed-study.json   what the custodian signed         from the custodian
    map-<dataset>.arrow record pseudonym -> record id     `linkage-site tokenize`
    packages/<dataset>/ sealed parts and manifest         `linkage-site tokenize`

Every file that says who is whom is readable by its owner only.
"""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.encoding.keys import StudyKey
from linkage.errors import KeyRefused
from linkage.pseudonyms import ContributorSecret
from linkage.sealing import Identity, read_secret, write_secret
from linkage.signed_study import SignedStudy, load_signed_study


@dataclass(frozen=True, slots=True)
class Vault:
    """The private folder of one site. Every method raises KeyRefused with a remedy."""

    folder: Path

    @property
    def identity_file(self) -> Path:
        return self.folder / "identity.key"

    @property
    def study_key_file(self) -> Path:
        return self.folder / "study.key"

    @property
    def signed_study_file(self) -> Path:
        return self.folder / "signed-study.json"

    def package(self, dataset: int) -> Path:
        """Return the folder of a dataset version's sealed parts."""
        return self.folder / "packages" / str(dataset)

    def identity(self) -> Identity:
        """Read this site's private keys."""
        self._needs(self.identity_file, "linkage-site keys identity")
        return Identity.load(self.identity_file)

    def secret(self) -> ContributorSecret:
        """Read the contributor's secret; made at the first call."""
        return ContributorSecret.load_or_create(self.folder / "contributor.secret")

    def study_key(self) -> StudyKey:
        """Read the opened study key."""
        self._needs(self.study_key_file, "linkage-site keys open")
        return StudyKey.load(self.study_key_file)

    def signed_study(self, custodian_fingerprint: str | None) -> SignedStudy:
        """
        Read and verify the signed study that the custodian sent.

        Without the fingerprint whoever relays the file could play custodian, study key included.
        A rehearsal's study and an expired one are refused as well.
        """
        self._needs(self.signed_study_file, f"cp FROM_CUSTODIAN {self.signed_study_file}")
        if not (custodian_fingerprint or "").strip():
            raise KeyRefused(
                "the site file does not say which custodian to trust",
                hint='ask the custodian by telephone, then [broker] custodian = "FINGERPRINT"',
            )
        signed = load_signed_study(
            self.signed_study_file, custodian_fingerprint=custodian_fingerprint
        )
        if signed.rehearsal:
            raise KeyRefused(
                "the signed study is a rehearsal's", hint="rehearse with `linkage-site rehearse`"
            )
        expires = signed.study.study.expires
        if expires and dt.date.today() > expires:
            raise KeyRefused(
                f"the study expired after {expires}",
                hint="ask the custodian for a study that runs longer",
            )
        return signed

    def newest_dataset(self) -> int:
        """Return the highest dataset version tokenized here, 0 if none."""
        made = [int(p.name) for p in (self.folder / "packages").glob("[0-9]*")]
        return max(made, default=0)

    def save_map(
        self, dataset: int, pseudonyms: npt.NDArray[np.uint8], record_ids: list[str]
    ) -> None:
        """Write the map of dataset version `dataset`; pseudonyms: uint8[N, 16]."""
        batch = pa.record_batch(
            {
                "record_pseudonym": pa.array([p.tobytes() for p in pseudonyms], pa.binary(16)),
                "record_id": pa.array(record_ids, pa.string()),
            }
        )
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        path = self._map_file(dataset)
        path.unlink(missing_ok=True)
        write_secret(path, sink.getvalue())

    def load_map(self, dataset: int) -> dict[bytes, str]:
        """Return record id by record pseudonym."""
        path = self._map_file(dataset)
        self._needs(path, "linkage-site tokenize")
        table = pa.ipc.open_stream(read_secret(path)).read_all()
        return dict(
            zip(
                table.column("record_pseudonym").to_pylist(),
                table.column("record_id").to_pylist(),
                strict=True,
            )
        )

    def _map_file(self, dataset: int) -> Path:
        return self.folder / f"map-{dataset}.arrow"

    def _needs(self, path: Path, command: str) -> None:
        if not path.exists():
            raise KeyRefused(f"{path} is missing", hint=f"run first: {command}")
