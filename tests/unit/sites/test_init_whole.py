"""`linkage-site init` on a full disk: no half of a site file stays in the way of the next try."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

from typer.testing import CliRunner

from sites.cli import app


def test_a_site_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,first_name,last_name\n1,Ada,Lovelace\n")
    words = ["init", str(tmp_path / "my site"), "--party", "north", "--yes"]
    words += ["--source", str(tmp_path / "p.csv")]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        full = CliRunner().invoke(app, words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (full.exit_code, "the disk is full" in full.stderr) == (7, True), full.output
    assert not list((tmp_path / "my site").iterdir())
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"keys identity '{tmp_path}/my site/private'" in " ".join(done.stdout.split())
