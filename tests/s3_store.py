"""A store that speaks S3 over HTTP on this machine, for tests: moto's server, with one bucket."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import httpx
from moto.server import ThreadedMotoServer

from broker.blob_settings import BlobSettings
from broker.config import Home

KEYS = "[default]\naws_access_key_id = test-key\naws_secret_access_key = test-secret\n"


@dataclass(slots=True)
class S3:
    """A running store. Its objects outlive `stop` and `start`."""

    server: ThreadedMotoServer
    port: int
    bucket: str = "sealed-packages"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.stop()

    def start(self) -> None:
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()

    def client(self) -> object:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="test-key",
            aws_secret_access_key="test-secret",
            region_name="us-east-1",
        )

    def objects(self) -> dict[str, bytes]:
        """Every object of the bucket, but the marks that stand for folders."""
        client = self.client()
        found = {}
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)  # type: ignore[attr-defined]
        for page in pages:
            for one in page.get("Contents", ()):
                if not one["Key"].endswith("/"):
                    got = client.get_object(Bucket=self.bucket, Key=one["Key"])  # type: ignore[attr-defined]
                    found[one["Key"]] = got["Body"].read()
        return found

    def settings(self, **changed: object) -> BlobSettings:
        fields: dict[str, object] = {
            "url": f"s3://{self.bucket}/broker",
            "endpoint": self.endpoint,
            "credentials_file": Path("s3-credentials"),
            "attempts": 2,
        }
        return BlobSettings.model_validate(fields | changed)

    def give_to(self, home: Home) -> None:
        """Have a broker keep its packages here."""
        keys = home.path / "s3-credentials"
        keys.touch(mode=0o600)
        keys.write_text(KEYS)
        config = home.path / "config.toml"
        config.write_text(
            f'{config.read_text()}\n[blobs]\nurl = "s3://{self.bucket}/broker"\n'
            f'endpoint = "{self.endpoint}"\ncredentials_file = "s3-credentials"\n'
            "attempts = 2\n"
        )


@contextmanager
def s3_store() -> Iterator[S3]:
    """Run a store with an empty bucket."""
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    made = S3(server, server.get_host_and_port()[1])
    made.client().create_bucket(Bucket=made.bucket)  # type: ignore[attr-defined]
    try:
        yield made
    finally:
        made.server.stop()


_FRAMED = {"content-encoding", "x-amz-content-sha256", "x-amz-decoded-content-length"}
"""Headers by which a client says that checksums stand around the pieces of a body."""


@contextmanager
def older_store(behind: S3) -> Iterator[str]:
    """
    Yield the address of a store that knows nothing of checksums around a body, and so keeps them as
    part of it: everything goes to the store `behind` but the headers that tell of them.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            told = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _FRAMED and not name.lower().startswith("x-amz-checksum")
            }
            url = behind.endpoint + self.path
            found = httpx.request(self.command, url, headers=told, content=body, timeout=60)
            self.send_response(found.status_code)
            for name, value in found.headers.items():
                if name not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else found.content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
