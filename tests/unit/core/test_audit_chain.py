"""An exported audit log: whatever is changed in it is found, whoever changed it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linkage.audit_chain import (
    START,
    AuditHead,
    KeptHead,
    Verdict,
    chained,
    compare,
    export_lines,
    parse_head,
    read_heads,
    verify_export,
)
from linkage.errors import HistoryAltered, LinkageError, SourceRefused
from linkage.sealing import Identity

BROKER = Identity.generate("broker", kem="X25519")
STRANGER = Identity.generate("broker", kem="X25519")


def entries(n: int, *, mark: str = "") -> list[bytes]:
    """Canonical JSON of n entries."""
    made = [{"action": f"act {i}{mark}", "number": i, "salt": f"{i:032x}"} for i in range(1, n + 1)]
    return [json.dumps(one, separators=(",", ":")).encode() for one in made]


@dataclass(frozen=True, slots=True)
class Log:
    """A log with a head after each `every` entries and one at its end."""

    lines: list[bytes]
    heads: list[AuditHead]

    def write(self, path: Path) -> Path:
        path.write_bytes(b"".join(self.lines))
        return path

    def kept(self) -> list[KeptHead]:
        return [KeptHead(head, f"heads, line {i}") for i, head in enumerate(self.heads, start=1)]


def made(written: list[bytes], *, every: int = 3, signer: Identity = BROKER) -> Log:
    walk: list[tuple[bytes, str] | AuditHead] = []
    heads: list[AuditHead] = []
    at = START
    for number, entry in enumerate(written, start=1):
        at = chained(at, entry)
        walk.append((entry, at))
        if number % every == 0 or number == len(written):
            before = heads[-1].digest if heads else START
            head = AuditHead(sequence=len(heads) + 1, previous=before, hash=at, at=100 + number)
            heads.append(head.sign(signer))
            walk.append(heads[-1])
    return Log(list(export_lines(BROKER.public(), walk)), heads)


def verified(log: Log, folder: Path, kept: list[KeptHead] | None = None) -> Verdict:
    return verify_export(log.write(folder / "log.jsonl"), BROKER.public(), kept or [])


def test_an_untouched_export_verifies(tmp_path: Path) -> None:
    log = made(entries(8))
    told = verified(log, tmp_path, log.kept()[:2])
    assert (told.entries, told.heads, told.kept) == (8, 3, 2)
    assert told.newest == log.heads[-1]
    assert told.signed == 8
    assert (told.vouched, told.unvouched) == (6, 2)
    assert verified(made([]), tmp_path).entries == 0


LOG = made(entries(9), every=2)
WHOLE = b"".join(LOG.lines)


@pytest.mark.threat("T20")
@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_found(at: int, bit: int, tmp_path: Path) -> None:
    spoiled = bytearray(WHOLE)
    spoiled[at] ^= 1 << bit
    path = tmp_path / "spoiled.jsonl"
    path.write_bytes(spoiled)
    with pytest.raises(LinkageError):
        verify_export(path, BROKER.public())


@pytest.mark.threat("T20")
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_lines_dropped_inserted_moved_or_cut_are_found(data: st.DataObject, tmp_path: Path) -> None:
    lines = list(LOG.lines)
    line = st.integers(0, len(lines) - 1)
    act = data.draw(st.sampled_from(["drop", "double", "swap", "move", "cut"]))
    i, j = data.draw(line), data.draw(line)
    if act == "drop":
        del lines[i]
    elif act == "double":
        lines.insert(j, lines[i])
    elif act == "swap":
        lines[i], lines[j] = lines[j], lines[i]
    elif act == "move":
        lines.insert(j, lines.pop(i))
    else:
        lines = lines[:i]
    if lines == LOG.lines:
        return
    path = tmp_path / "spoiled.jsonl"
    path.write_bytes(b"".join(lines))
    with pytest.raises(LinkageError):
        verify_export(path, BROKER.public())


@pytest.mark.threat("T20")
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whoever_has_the_brokers_key_is_found_by_the_kept_heads(
    data: st.DataObject, tmp_path: Path
) -> None:
    """Every number and hash made anew, every head signed anew; only the parties' heads are left."""
    honest = made(entries(9), every=2)
    written = entries(9)
    i = data.draw(st.integers(0, 8))
    act = data.draw(st.sampled_from(["flip", "drop", "insert", "swap", "cut"]))
    if act == "flip":
        written[i] = written[i].replace(b"act", b"ACT")
    elif act == "drop":
        del written[i]
    elif act == "insert":
        written.insert(i, entries(9, mark=" more")[i])
    elif act == "swap":
        j = data.draw(st.integers(0, 8).filter(lambda j: j != i))
        written[i], written[j] = written[j], written[i]
    else:
        written = written[:i]
    numbered = [
        json.dumps(json.loads(one) | {"number": n}, separators=(",", ":")).encode()
        for n, one in enumerate(written, start=1)
    ]
    forged = made(numbered, every=2)
    assert verified(forged, tmp_path).entries == len(numbered)  # alone it looks right
    with pytest.raises(HistoryAltered, match=r"two histories|cut off"):
        verified(forged, tmp_path, honest.kept())
    newest = honest.kept()[-1:]  # one head vouches for all before it
    with pytest.raises(HistoryAltered, match=r"two histories|cut off"):
        verified(forged, tmp_path, newest)


@pytest.mark.threat("T20")
def test_heads_of_another_key_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryAltered, match="head 1 of the log is not signed by the broker"):
        verified(made(entries(4), signer=STRANGER), tmp_path)
    log = made(entries(4)).write(tmp_path / "log.jsonl")
    with pytest.raises(HistoryAltered, match="of another broker"):
        verify_export(log, STRANGER.public())


@pytest.mark.threat("T20")
def test_a_fork_is_found_without_the_log() -> None:
    here, there = made(entries(6)), made(entries(6, mark="!"))
    assert len(compare([*here.kept(), *here.kept()])) == 2
    with pytest.raises(HistoryAltered, match="two heads of number 1 differ"):
        compare([*here.kept(), *there.kept()])
    with pytest.raises(HistoryAltered, match="head 2 does not follow"):
        compare([here.kept()[0], there.kept()[1]])


@pytest.mark.threat("T20")
def test_a_heads_file(tmp_path: Path) -> None:
    log = made(entries(6), every=2)
    path = tmp_path / "heads.jsonl"

    def write(*heads: AuditHead) -> Path:
        path.write_bytes(b"".join(head.canonical() + b"\n" for head in heads))
        return path

    assert [one.head for one in read_heads(write(*log.heads), BROKER.public())] == log.heads
    with pytest.raises(SourceRefused, match="holds no head"):
        read_heads(write(), BROKER.public())
    with pytest.raises(SourceRefused, match="cannot be read"):
        read_heads(tmp_path / "missing", BROKER.public())
    forged = made(entries(6, mark="!"), every=2).heads[1]
    with pytest.raises(HistoryAltered, match="line 2: head 2 does not follow"):
        read_heads(write(log.heads[0], forged), BROKER.public())
    with pytest.raises(HistoryAltered, match="line 1 is not signed by the broker"):
        read_heads(write(log.heads[0].model_copy(update={"at": 7})), BROKER.public())
    with pytest.raises(HistoryAltered, match="line 1 is not signed by the broker"):
        read_heads(write(log.heads[0].model_copy(update={"signature": "é"})), BROKER.public())
    path.write_text("no head\n")
    with pytest.raises(HistoryAltered, match="line 1 is no head"):
        read_heads(path, BROKER.public())


def test_only_canonical_heads_are_read() -> None:
    text = LOG.heads[0].canonical().decode()
    assert parse_head(text, "here") == LOG.heads[0]
    for other in (text.replace(":", ": ", 1), text + " ", "", "[]", '{"sequence":1}'):
        with pytest.raises(HistoryAltered, match="here is no head"):
            parse_head(other, "here")


def test_what_is_no_export_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for data in (b"", b"\n", b'{"a":1}\n', b"\x00" * 100):
        path.write_bytes(data)
        with pytest.raises(LinkageError):
            verify_export(path, BROKER.public())
    with pytest.raises(SourceRefused, match="cannot be read"):
        verify_export(tmp_path / "missing", BROKER.public())
    path.write_bytes(LOG.lines[0] + b'{"entry":' + b"[" * 100_000 + b"\n")
    with pytest.raises(HistoryAltered, match="line 2"):
        verify_export(path, BROKER.public())
    path.write_bytes(LOG.lines[0] + b" " * 2_000_000 + b"\n")
    with pytest.raises(HistoryAltered, match="cut off or too long"):
        verify_export(path, BROKER.public())
