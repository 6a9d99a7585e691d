"""
A site's private folder: its keys, the contributor's secret, the map of record ids, packages.

    identity.key        signing and sealing keys          `linkage-site keys identity`
    contributor.secret  makes the record pseudonyms       made at the first tokenize
    study.key           the study key, after opening      `linkage-site keys open`
    signed-study.json   what the custodian signed         from the custodian
    map-<dataset>/      record pseudonym -> record id     `linkage-site tokenize`
    packages/<dataset>/ sealed parts and manifest         `linkage-site tokenize`
    spool/<dataset>/    what an unfinished tokenize made  goes with the finished one
    kept/               other private objects

The three secrets are owner-only files or entries of the system keyring (sites.keystore). Every
other file that says who is whom is encrypted under a key derived from the contributor's secret
(AES-256-GCM, the file's name bound to it): a stolen disk without that secret says nothing, and
after a loss the secret and the records remake the maps.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from linkage.encoding.keys import StudyKey
from linkage.errors import KeyRefused
from linkage.pseudonyms import ContributorSecret
from linkage.sealing import Identity, read_secret
from linkage.signed_study import SignedStudy, load_signed_study
from linkage.whole_file import write_private
from sites.keystore import Keystore, Kind

IDENTITY, CONTRIBUTOR, STUDY_KEY = "identity.key", "contributor.secret", "study.key"
_MAGIC = b"commons-linkage vault 1\n"
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Vault:
    """The private folder of one site. Every method raises KeyRefused with a remedy."""

    folder: Path
    keys: Kind = "file"

    @property
    def keystore(self) -> Keystore:
        """Where the three secrets are."""
        return Keystore(self.folder, self.keys)

    @property
    def identity_file(self) -> Path:
        return self.folder / IDENTITY

    @property
    def study_key_file(self) -> Path:
        return self.folder / STUDY_KEY

    @property
    def signed_study_file(self) -> Path:
        return self.folder / "signed-study.json"

    def package(self, dataset: int) -> Path:
        """Return the folder of a dataset version's sealed parts."""
        return self.folder / "packages" / str(dataset)

    def spool(self, dataset: int) -> Path:
        """Return the folder of what an unfinished tokenization has made so far."""
        return self.folder / "spool" / str(dataset)

    # Secrets

    def identity(self) -> Identity:
        """Read this site's private keys."""
        # Beside a public file or the secret there were keys once: part of a backup is back.
        once = any(self.folder.glob("*.public.json")) or self.keystore.has(CONTRIBUTOR)
        if once and not self.keystore.has(IDENTITY):
            raise KeyRefused(
                f"{self.keystore.where(IDENTITY)} is missing, though it was made",
                hint="restore it from your backup. New ones, by `linkage-site keys identity`, count"
                " only once the custodian has signed the study with them",
            )
        self._needs(IDENTITY, "linkage-site keys identity")
        return Identity.from_bytes(self.keystore.read(IDENTITY))

    def keep_identity(self, identity: Identity) -> None:
        """Keep this site's private keys, once."""
        self.keystore.write(IDENTITY, identity.to_bytes())

    def secret(self) -> ContributorSecret:
        """
        Read the contributor's secret; made at the first call.

        Another one in its place would give every record another pseudonym and open nothing that
        is here, so one that is missed is never made anew. Raises KeyRefused.
        """
        if not self.keystore.has(CONTRIBUTOR):
            if self._used():
                raise KeyRefused(
                    f"{self.keystore.where(CONTRIBUTOR)} is missing, and what is in"
                    f" {self.folder} was made with it",
                    hint="restore it from your backup; if it is lost for good, begin a new private"
                    " folder: then every record is a new one to the broker",
                )
            self.keystore.write(CONTRIBUTOR, ContributorSecret.generate().to_bytes())
        return ContributorSecret.from_bytes(self.keystore.read(CONTRIBUTOR))

    def study_key(self) -> StudyKey:
        """Read the opened study key."""
        self._needs(STUDY_KEY, "linkage-site keys open")
        return StudyKey.from_bytes(self.keystore.read(STUDY_KEY))

    def keep_study_key(self, key: StudyKey) -> None:
        """Keep the opened study key in place of the one before."""
        self.keystore.replace(STUDY_KEY, key.to_bytes())

    def forget_study_key(self) -> None:
        """Destroy this site's copy of the study key."""
        self.keystore.destroy(STUDY_KEY)

    def signed_study(
        self, custodian_fingerprint: str | None, *, expired_too: bool = False
    ) -> SignedStudy:
        """
        Read and verify the signed study that the custodian sent.

        Without the fingerprint whoever relays the file could play custodian, study key included.
        A rehearsal's study is refused as well, and an expired one unless `expired_too`: taking back
        and reading what was destroyed stay possible.
        """
        if not self.signed_study_file.exists():
            command = f"cp FROM_CUSTODIAN {self.signed_study_file}"
            raise KeyRefused(f"{self.signed_study_file} is missing", hint=f"run first: {command}")
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
        if expires and dt.datetime.now(dt.UTC).date() > expires and not expired_too:
            raise KeyRefused(
                f"the study expired after {expires}",
                hint="ask the custodian for a study that runs longer",
            )
        return signed

    # Private objects, encrypted

    def keep(self, name: str, data: bytes) -> None:
        """Keep `data` encrypted under `name`, in place of what was there. One rename."""
        self.write_private(self.folder / "kept" / name, name, data)

    def kept(self, name: str) -> bytes | None:
        """Return what is kept under `name`, None where nothing is."""
        path = self.folder / "kept" / name
        return self.read_private(path, name) if path.exists() else None

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Change what is kept under `name` after reading it; another process waits meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.folder / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def write_private(self, path: Path, name: str, data: bytes) -> None:
        """Write an encrypted file that opens under `name` only, in one rename."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._vault_key()).encrypt(nonce, data, name.encode())
        write_private(path, _MAGIC + nonce + sealed)

    def read_private(self, path: Path, name: str) -> bytes:
        """Return what `write_private` wrote. Refused where altered, renamed or another site's."""
        found = read_secret(path)
        head = len(_MAGIC) + _NONCE_BYTES
        try:
            if not found.startswith(_MAGIC):
                raise InvalidTag
            nonce = found[len(_MAGIC) : head]
            return AESGCM(self._vault_key()).decrypt(nonce, found[head:], name.encode())
        except (InvalidTag, ValueError):
            raise KeyRefused(
                f"{path} does not open with this site's contributor secret",
                hint="restore contributor.secret from your backup, or tokenize again",
            ) from None

    def _vault_key(self) -> bytes:
        return self.secret().derive("vault")

    # Dataset versions and their maps

    def newest_dataset(self) -> int:
        """Return the highest dataset version tokenized here, 0 if none."""
        names = (path.name for path in (self.folder / "packages").glob("[0-9]*"))
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def map_folder(self, dataset: int) -> Path:
        """Return the folder of the map of a dataset version: encrypted chunks, 1 and up."""
        return self.folder / f"map-{dataset}"

    def write_map_chunk(
        self,
        folder: Path,
        dataset: int,
        number: int,
        pseudonyms: npt.NDArray[np.uint8],
        record_ids: pa.StringArray,
    ) -> None:
        """Write chunk `number` of a map into `folder`; pseudonyms: uint8[n, 16]."""
        data = pa.py_buffer(np.ascontiguousarray(pseudonyms).tobytes())
        names = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(pseudonyms), [None, data])
        batch = pa.record_batch({"record_pseudonym": names, "record_id": record_ids})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        name = _chunk_name(dataset, number)
        self.write_private(folder / _chunk_file(number), name, sink.getvalue().to_pybytes())

    def gather_map(self, dataset: int, folders: Sequence[Path]) -> None:
        """Put the map of which folder i, from 1, holds chunk i in its place; they keep theirs."""
        making = self.folder / f".map-{dataset}.making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        for number, folder in enumerate(folders, start=1):
            chunk = _chunk_file(number)
            try:
                (making / chunk).hardlink_to(folder / chunk)
            except OSError:  # a file system without links
                shutil.copy(folder / chunk, making / chunk)
        self.finish_map(making, dataset, len(folders))

    def finish_map(self, folder: Path, dataset: int, chunks: int) -> None:
        """Put the complete map of `chunks` chunks in its place, over an older one."""
        self.write_private(folder / "chunks", f"map/{dataset}/chunks", str(chunks).encode())
        final = self.map_folder(dataset)
        if final.exists():
            for path in final.iterdir():
                path.unlink()
            final.rmdir()
        folder.rename(final)

    def map_chunks(self, dataset: int) -> Iterator[tuple[npt.NDArray[np.uint8], list[str]]]:
        """Read a map chunk by chunk: pseudonyms uint8[n, 16] and their record ids."""
        folder = self.map_folder(dataset)
        if not (folder / "chunks").exists():
            raise KeyRefused(f"{folder} is missing", hint="run first: linkage-site tokenize")
        chunks = int(self.read_private(folder / "chunks", f"map/{dataset}/chunks"))
        for number in range(1, chunks + 1):
            path, name = folder / _chunk_file(number), _chunk_name(dataset, number)
            table = pa.ipc.open_stream(self.read_private(path, name)).read_all().combine_chunks()
            raw = table.column("record_pseudonym").chunk(0).buffers()[1]
            pseudonyms = np.frombuffer(raw, np.uint8)[: 16 * table.num_rows].reshape(-1, 16)
            yield pseudonyms, table.column("record_id").to_pylist()

    def load_map(self, dataset: int) -> dict[bytes, str]:
        """Return record id by record pseudonym."""
        return {
            pseudonym.tobytes(): record_id
            for pseudonyms, record_ids in self.map_chunks(dataset)
            for pseudonym, record_id in zip(pseudonyms, record_ids, strict=True)
        }

    def _used(self) -> bool:
        made = ("packages/*/manifest.json", "kept/*", "map-*/chunks")
        return any(any(self.folder.glob(pattern)) for pattern in made)

    def _needs(self, name: str, command: str) -> None:
        if not self.keystore.has(name):
            raise KeyRefused(
                f"{self.keystore.where(name)} is missing", hint=f"run first: {command}"
            )


def _chunk_file(number: int) -> str:
    return f"{number:05d}"


def _chunk_name(dataset: int, number: int) -> str:
    return f"map/{dataset}/{number}"
