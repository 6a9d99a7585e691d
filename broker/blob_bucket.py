"""
Blobs in an S3-compatible bucket, by the S3 client that Arrow ships (docs/adr/0022).

    s3://bucket/prefix/<name>

An object appears when its PUT, or the last request of a multipart upload, is done: whole or not at
all. Requests are repeated a bounded number of times; then the caller is told what is wrong with
the store, in words that name neither bucket, key nor credentials.
"""

from __future__ import annotations

import configparser
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from broker.blob_settings import BlobSettings
from broker.blob_stores import CHUNK_BYTES, NAME, gone, require_name
from linkage.errors import KeyRefused, LinkageError, Unreachable
from linkage.sealing import read_secret

_AT_ONCE = 4
"""Objects that one process writes at a time: Arrow holds a piece of 10 MB of each in memory."""
_READ_BYTES = 8 << 20
"""Read at a time: a request each."""
_TRIAL = b"a trial of the broker's store"
_CHECKSUMS = "AWS_REQUEST_CHECKSUM_CALCULATION"
"""The client asks this when it is made; Arrow has no argument for it."""

_REMEDIES = {
    "NO_SUCH_BUCKET": ("there is no such bucket", "make the bucket, or mend [blobs] url"),
    "INVALID_ACCESS_KEY_ID": (
        "the store does not know the access key",
        "put the right keys into [blobs] credentials_file, restart serve and worker",
    ),
    "SIGNATURE_DOES_NOT_MATCH": (
        "the store refuses the secret key",
        "put the right keys into [blobs] credentials_file; check region and this machine's clock",
    ),
    "REQUEST_TIME_TOO_SKEWED": (
        "this machine's clock and the store's differ too much",
        "set the clocks right (NTP)",
    ),
    "ACCESS_DENIED": (
        "the store does not let these keys do that",
        "they must be allowed to list the bucket, and to get, put and delete below the prefix",
    ),
    "NETWORK_CONNECTION": (
        "the store does not answer",
        "try again soon; the broker's admin looks at the store, [blobs] endpoint and TLS",
    ),
}


class Credentials:
    """The keys of a bucket. Shows nothing of them in repr, and refuses pickling."""

    __slots__ = ("access_key", "secret_key", "session_token")

    def __init__(self, access_key: str, secret_key: str, session_token: str | None = None) -> None:
        self.access_key, self.secret_key = access_key, secret_key
        self.session_token = session_token or ""

    def __repr__(self) -> str:
        return "Credentials(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise KeyRefused("a store's keys are not pickled", hint="pass the path of their file")

    @classmethod
    def load(cls, path: Path) -> Credentials:
        """
        Read an owner-only file as the AWS tools write it, section [default] or the only one.

        Raises KeyRefused where it is missing, others can read it, or a key is not in it.
        """
        parser = configparser.ConfigParser(interpolation=None, default_section="\0none")
        try:
            parser.read_string(read_secret(path, noun="file of the store's keys").decode())
            sections = parser.sections()
            found = parser["default" if "default" in sections else sections[0]]
            if "default" not in sections and len(sections) > 1:
                raise KeyError
            keys = found["aws_access_key_id"], found["aws_secret_access_key"]
            return cls(*keys, found.get("aws_session_token", ""))
        except (configparser.Error, UnicodeDecodeError, KeyError, IndexError):
            raise KeyRefused(
                f"{path} does not hold the keys of a store",
                hint="three lines: [default], aws_access_key_id = ..., aws_secret_access_key = ...",
            ) from None


class BucketStore:
    """Blobs below s3://bucket/prefix. ca_file: path; "": whom the system trusts."""

    def __init__(self, settings: BlobSettings, credentials: Credentials, ca_file: str = "") -> None:
        self._at = "/".join(part for part in settings.bucket if part)
        self._bucket = settings.bucket[0]
        self._client = _client(settings, credentials, ca_file)
        self._writing = threading.BoundedSemaphore(_AT_ONCE)

    def __repr__(self) -> str:
        return "BucketStore(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise KeyRefused("a store's keys are not pickled", hint="pass the path of their file")

    def place(self, spooled: Path, name: str) -> None:
        # Should reading the spool fail in the middle, Arrow completes an object that is too
        # short; no row will ever name it, and the sweep deletes it.
        key = self._key(name)
        with (
            self._writing,
            _clear_errors(),
            spooled.open("rb") as file,
            self._client.open_output_stream(key) as out,
        ):
            while chunk := file.read(CHUNK_BYTES):
                out.write(chunk)

    def chunks(self, name: str, start: int = 0) -> Iterator[bytes]:
        with _clear_errors(), self._client.open_input_file(self._key(name)) as file:
            file.seek(start)
            while chunk := file.read(_READ_BYTES):
                yield chunk

    def delete(self, name: str) -> None:
        with _clear_errors(missing_is_fine=True):
            self._client.delete_file(self._key(name))

    def ages(self) -> Iterator[tuple[str, float]]:
        from pyarrow.fs import FileSelector

        # By the store's clock, whatever ours says: else a fresh blob could look old.
        with self._trial() as trial:
            now = trial.mtime_ns
        with _clear_errors():
            below = FileSelector(self._at, recursive=True, allow_not_found=True)
            found = self._client.get_file_info(below)
        for info in found:
            if info.mtime_ns and info.is_file and NAME.fullmatch(info.base_name):
                yield info.base_name, (now - info.mtime_ns) / 1e9

    def require_usable(self) -> None:
        from pyarrow.fs import FileSelector

        with _clear_errors():
            self._client.get_file_info(FileSelector(self._bucket))
        with (
            self._trial() as trial,
            _clear_errors(),
            self._client.open_input_file(trial.path) as file,
        ):
            found = file.read()
        if found != _TRIAL:
            raise Unreachable(
                "the broker's store of packages gives back other bytes than it was sent",
                hint="it does not know the checksums that come with a body: upgrade it, or say"
                " checksums = false in [blobs]",
            )

    @contextmanager
    def _trial(self) -> Iterator[Any]:
        """Have a small object for a moment, that no sweep takes for a blob; give what it is."""
        key = f"{self._at}/trial-{secrets.token_hex(8)}"
        with _clear_errors():
            with self._client.open_output_stream(key) as out:
                out.write(_TRIAL)
            yield self._client.get_file_info(key)
            self._client.delete_file(key)

    def _key(self, name: str) -> str:
        return f"{self._at}/{require_name(name)}"


def _client(settings: BlobSettings, credentials: Credentials, ca_file: str) -> Any:
    # Here, because it loads a library of its own that a broker with a folder has no use for.
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    endpoint = urlsplit(settings.endpoint)
    os.environ[_CHECKSUMS] = "when_supported" if settings.checksums else "when_required"
    return S3FileSystem(
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.session_token or None,
        region=settings.region,
        scheme=endpoint.scheme or "https",
        endpoint_override=endpoint.netloc or None,
        connect_timeout=settings.connect_seconds,
        request_timeout=settings.silent_seconds,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=settings.attempts),
        # In the background it would read whole files into memory, ahead of a slow store.
        background_writes=False,
        # A part is then one request; else three.
        allow_delayed_open=True,
        tls_ca_file_path=ca_file or None,
    )


@contextmanager
def _clear_errors(*, missing_is_fine: bool = False) -> Iterator[None]:
    """Say what is wrong with the store and what to do; its own text names bucket and key."""
    try:
        yield
    except FileNotFoundError:
        if not missing_is_fine:
            raise gone() from None
    except OSError as fault:
        raise _told(str(fault)) from None


def _told(text: str) -> LinkageError:
    for code, (what, hint) in _REMEDIES.items():
        if code in text:
            return Unreachable(f"the broker's store of packages: {what}", hint=hint)
    return Unreachable(
        "the broker's store of packages failed",
        hint="try again soon; the broker's admin runs `linkage-broker upload check-store`",
    )
