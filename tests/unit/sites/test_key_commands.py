"""`linkage-site keys` and `study`: a key's life, what each command refuses, and its dry run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from broker.config import create_home
from linkage import roles
from linkage.encoding.keys import StudyKey
from linkage.errors import KeyRefused
from linkage.messages import BROKER, CUSTODIAN
from linkage.sealing import Identity
from linkage.signed_study import load_signed_study
from linkage.study import parse_study
from sites import cli
from sites.commands import keys, study
from sites.vault import Vault
from tests.studies import STUDY, certified

FINGERPRINT = re.compile(r"[0-9a-f]{4}(?: [0-9a-f]{4}){7}")
WITH_HOSPITALS = STUDY.replace('id = "alpha"', 'id = "alpha"\ncontributors = ["north", "south"]')
PEOPLE = ("alpha", "north", "south", "beta")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def call(app: typer.Typer, *words: str | Path) -> Done:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return Done(done.exit_code, done.stdout, " ".join(done.stderr.split()))


def ok(app: typer.Typer, *words: str | Path) -> Done:
    done = call(app, *words)
    assert done.code == 0, done.err
    return done


@dataclass(frozen=True, slots=True)
class Desk:
    """The custodian's desk, and everybody's folder beside it."""

    root: Path

    @property
    def custodian(self) -> Path:
        return self.root / "custodian"

    def public(self) -> list[str]:
        found = [self.root / BROKER / "public.json"]
        found += [self.root / name / "private" / f"{name}.public.json" for name in PEOPLE]
        return [word for path in found for word in ("--public", str(path))]

    def sign(self, text: str, number: int = 1, *more: str | Path) -> Path:
        """Make a key, sign the study and seal the key to everybody; return the signed study."""
        file, signed = self.root / f"study-{number}.toml", self.root / f"signed-{number}.json"
        file.write_text(text)
        gate = self.gate(text)
        key = self.custodian / f"study-{number}.key"
        ok(keys.app, "new", key)
        own = ("--key", key, "--custodian", self.custodian / "custodian.key")
        ok(study.app, "sign", file, *own, *self.public(), *gate, "--out", signed, *more)
        ok(keys.app, "seal", signed, *own, "--out", self.root / f"sealed-{number}")
        return signed

    def gate(self, text: str) -> tuple[str, str]:
        """Write a certificate with which the study `text` passes; return the option for it."""
        made = certified(parse_study(text))
        assert made is not None
        path = self.root / f"certificate-{made.epoch}.json"
        path.write_text(made.model_dump_json())
        return "--certificate", str(path)

    def take(self, name: str, signed: Path, told: str) -> Path:
        """Put the signed study where the site wants it; return its site file."""
        folder = self.root / name
        (folder / "private" / "signed-study.json").write_bytes(signed.read_bytes())
        party = (
            'party = "alpha"\ncontributor = "north"\n' if name == "north" else f'party = "{name}"\n'
        )
        text = party + f'[broker]\nurl = "https://broker.example"\ncustodian = "{told}"\n'
        (folder / "site.toml").write_text(text)
        return folder / "site.toml"

    def fingerprint(self) -> str:
        return Identity.load(self.custodian / "custodian.key").public().fingerprint

    def vault(self, name: str) -> Vault:
        return Vault(self.root / name / "private")

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "account"))
    monkeypatch.delenv(roles.BROKER_HOME, raising=False)
    made = Desk(tmp_path / "room")
    ok(keys.app, "identity", made.custodian, "--name", CUSTODIAN)
    for name in PEOPLE:
        ok(keys.app, "identity", made.root / name / "private", "--name", name)
    broker = Identity.generate(BROKER, kem="X25519").public()
    (made.root / BROKER).mkdir()
    (made.root / BROKER / "public.json").write_text(broker.model_dump_json())
    return made


def test_a_keys_whole_life(desk: Desk) -> None:
    signed = desk.sign(WITH_HOSPITALS)
    sealed = {path.name for path in (desk.root / "sealed-1").iterdir()}
    assert sealed == {f"{one}.study-key.sealed" for one in ("north", "south", "beta")}
    site = desk.take("north", signed, desk.fingerprint())
    mine = desk.root / "sealed-1" / "north.study-key.sealed"
    shown = ok(keys.app, "open", mine, "--site", site, "--json").json
    assert (shown["study"], shown["epoch"]) == ("small-study", 1)
    assert desk.vault("north").study_key() == StudyKey.load(desk.custodian / "study-1.key")

    notice = desk.root / "notice.json"
    why = ("--reason", "the linkage is verified", "--date", "2026-05-31")
    own = ("--custodian", desk.custodian / "custodian.key")
    ok(keys.app, "deactivate", signed, *own, *why, "--out", notice)
    assert ok(keys.app, "retire", notice, "--site", site, "--json").json["done"] == "destroyed"
    said = "epoch 1 was deactivated on 2026-05-31: the linkage is verified"
    with pytest.raises(KeyRefused, match=said):
        desk.vault("north").study_key()
    again = call(keys.app, "open", mine, "--site", site)
    assert again.code == 5
    assert said in again.err
    assert "next epoch" in again.err
    ok(keys.app, "retire", notice, "--site", site)
    key_bytes = StudyKey.load(desk.custodian / "study-1.key").to_bytes().splitlines()[1]
    assert not [
        p for p in (desk.root / "north").rglob("*") if p.is_file() and key_bytes in p.read_bytes()
    ]

    text = WITH_HOSPITALS.replace('title = "A', 'epoch = 2\ntitle = "A')
    second = desk.sign(text, 2, "--previous", signed)
    site = desk.take("north", second, desk.fingerprint())
    ok(keys.app, "open", desk.root / "sealed-2" / "north.study-key.sealed", "--site", site)
    assert desk.vault("north").study_key() == StudyKey.load(desk.custodian / "study-2.key")
    other_epoch = call(keys.app, "retire", notice, "--site", site)
    assert other_epoch.code == 5
    assert "this is epoch 2" in other_epoch.err
    assert desk.vault("north").study_key() == StudyKey.load(desk.custodian / "study-2.key")
    desk.take("north", signed, desk.fingerprint())
    assert said in call(keys.app, "open", mine, "--site", site).err, "nor ever again"


def test_a_dry_run_says_everything_and_writes_nothing(desk: Desk) -> None:
    signed = desk.sign(WITH_HOSPITALS)
    site = desk.take("north", signed, desk.fingerprint())
    ok(keys.app, "open", desk.root / "sealed-1" / "north.study-key.sealed", "--site", site)
    own = ("--custodian", desk.custodian / "custodian.key")
    key = ("--key", desk.custodian / "study-1.key")
    notice = desk.root / "notice.json"
    ok(keys.app, "deactivate", signed, *own, "--reason", "to test", "--out", notice)
    commands: list[tuple[typer.Typer, tuple[str | Path, ...]]] = [
        (keys.app, ("identity", desk.root / "new" / "private", "--name", "gamma")),
        (keys.app, ("new", desk.custodian / "other.key")),
        (keys.app, ("seal", signed, *key, *own, "--out", desk.root / "sealed-3")),
        (keys.app, ("open", desk.root / "sealed-1" / "north.study-key.sealed", "--site", site)),
        (keys.app, ("deactivate", signed, *own, "--reason", "test", "--out", desk.root / "n.json")),
        (keys.app, ("retire", notice, "--site", site)),
        (keys.app, ("fingerprint", signed)),
        (study.app, ("check", desk.root / "study-1.toml")),
        (study.app, ("verify", signed)),
        (study.app, ("compare", signed, desk.root / "study-1.toml")),
        (
            study.app,
            (
                *("sign", desk.root / "study-1.toml", *key, *own, *desk.public()),
                *("--out", "x.json", *desk.gate(WITH_HOSPITALS)),
            ),
        ),
    ]
    named = {
        (one.name or one.callback.__name__)
        for a in (keys.app, study.app)
        for one in a.registered_commands
        if one.callback
    }
    assert {str(words[0]) for _, words in commands} == named
    before = desk.files()
    for app, words in commands:
        plain = ok(app, *words, "--dry-run")
        as_json = ok(app, *words, "--dry-run", "--json").json
        assert plain.out
        assert isinstance(as_json, dict), words
        if words[0] not in ("fingerprint", "check", "verify", "compare"):
            assert as_json["dry_run"] is True, words
            assert "Dry run: would" in plain.out, words
    assert desk.files() == before
    assert not Path("x.json").exists()


def test_a_dry_run_refuses_what_the_command_would_refuse(desk: Desk) -> None:
    signed = desk.sign(WITH_HOSPITALS)
    site = desk.take("north", signed, desk.fingerprint())
    foreign = desk.root / "sealed-1" / "south.study-key.sealed"
    refused = [
        (keys.app, ("identity", desk.custodian, "--name", CUSTODIAN), "never overwritten"),
        (keys.app, ("identity", desk.root / "north" / "private", "--name", "north"), "overwritten"),
        (keys.app, ("identity", desk.root / "x", "--name", "Bad Name"), "not a valid name"),
        (keys.app, ("identity", desk.root / "x", "--name", BROKER), "linkage-broker init"),
        (keys.app, ("new", desk.custodian / "study-1.key"), "never overwritten"),
        (keys.app, ("open", foreign, "--site", site), "not signed by 'custodian' for this study"),
        (keys.app, ("open", desk.root / "none", "--site", site), "cannot be read"),
        (keys.app, ("retire", signed, "--site", site), "is no notice"),
    ]
    before = desk.files()
    for app, words, said in refused:
        done = call(app, *words, "--dry-run")
        assert done.code == 5, words
        assert said in done.err, words
        assert "What to do:" in done.err, words
        assert call(app, *words).err == done.err
    assert desk.files() == before


def test_the_key_is_never_shown(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    signed = desk.sign(WITH_HOSPITALS)
    site = desk.take("north", signed, desk.fingerprint())
    done = ok(keys.app, "open", desk.root / "sealed-1" / "north.study-key.sealed", "--site", site)
    secret = StudyKey.load(desk.custodian / "study-1.key")
    said = done.out + done.err + "".join(capfd.readouterr())
    for form in (secret.secret_bytes().hex(), secret.to_bytes().decode().splitlines()[1]):
        assert form not in said


def test_who_compares_is_told_what_and_with_whom(desk: Desk) -> None:
    """Every command whose result is to be compared by telephone says so, in groups of four."""
    signed = desk.sign(WITH_HOSPITALS)
    new = ok(keys.app, "identity", desk.root / "x", "--name", "gamma")
    assert "read out by telephone" in new.out
    assert FINGERPRINT.search(new.out)
    own = ("--key", desk.custodian / "study-1.key", "--custodian", desk.custodian / "custodian.key")
    file = desk.root / "study-1.toml"
    out = ("--out", desk.root / "s.json", *desk.gate(WITH_HOSPITALS))
    sign = ok(study.app, "sign", file, *own, *desk.public(), *out)
    assert "read out your own by telephone" in sign.out
    assert sign.out.count("by telephone") == 1 + len(PEOPLE) + 1
    sealing = ok(keys.app, "seal", signed, *own, "--out", desk.root / "s")
    assert sealing.out.count("compares by telephone") == 3
    unverified = ok(study.app, "verify", signed)
    assert "NOT COMPARED" in unverified.out
    assert "telephone" in unverified.out
    told = desk.fingerprint()
    assert "NOT COMPARED" not in ok(study.app, "verify", signed, "--custodian", told).out
    assert "by telephone" in ok(keys.app, "fingerprint", signed).out


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda told: told[:-1] + ("0" if told[-1] != "0" else "1"), "differs in group 8 of 8"),
        (lambda told: told[:-5], "28 digits instead of 32"),
        (lambda told: told.replace(told[0], "x"), "no digits from 0 to 9"),
        (lambda _: "dead beef " * 4, "that of another custodian"),
    ],
)
def test_a_mistyped_fingerprint_is_refused_with_a_remedy(desk: Desk, spoil: Any, said: str) -> None:
    signed = desk.sign(WITH_HOSPITALS)
    typed = spoil(desk.fingerprint())
    site = desk.take("north", signed, typed)
    sealed = desk.root / "sealed-1" / "north.study-key.sealed"
    for done in (
        call(study.app, "verify", signed, "--custodian", typed),
        call(keys.app, "fingerprint", signed, "--compare", typed),
        call(keys.app, "open", sealed, "--site", site),
    ):
        assert done.code == 5
        assert said in done.err
        assert "What to do:" in done.err
    assert not desk.vault("north").study_key_file.exists()


def test_a_rotation_is_checked_against_the_epoch_before(desk: Desk) -> None:
    signed = desk.sign(WITH_HOSPITALS)
    own = ("--custodian", desk.custodian / "custodian.key")
    old, new = desk.custodian / "study-1.key", desk.custodian / "study-2.key"
    ok(keys.app, "new", new)
    later = WITH_HOSPITALS.replace('title = "A', 'epoch = 2\ntitle = "A')

    def sign(text: str, key: Path, *more: str | Path) -> Done:
        file = desk.root / "next.toml"
        file.write_text(text)
        out = ("--out", desk.root / "next.json", *desk.gate(text))
        return call(study.app, "sign", file, "--key", key, *own, *desk.public(), *out, *more)

    for text, key, code, said in (
        (WITH_HOSPITALS, new, 3, "epoch 1 does not come after epoch 1"),
        (later, old, 5, "the study key of the epoch before"),
        (later.replace("small-study", "other-study"), new, 3, "this is study 'other-study'"),
    ):
        done = sign(text, key, "--previous", signed)
        assert done.code == code
        assert said in done.err
        assert not (desk.root / "next.json").exists()
    assert "NOT COMPARED" in sign(later, new).out
    made = (desk.root / "next.json").read_bytes()
    again = sign(later, new, "--previous", signed)
    assert (again.code, "never overwritten" in again.err) == (5, True)
    assert (desk.root / "next.json").read_bytes() == made, "a signed study may be in force"
    (desk.root / "next.json").unlink()
    told = sign(later.replace("minimum_cell", "x"), new, "--previous", signed)
    assert "new: study, epoch" in told.out
    assert load_signed_study(desk.root / "next.json").study.study.epoch == 2


def test_another_sites_sealed_key_and_another_name_have_their_own_remedies(desk: Desk) -> None:
    signed = desk.sign(WITH_HOSPITALS)
    site = desk.take("north", signed, desk.fingerprint())
    others = desk.root / "sealed-1" / "south.study-key.sealed"
    done = call(keys.app, "open", others, "--site", site)
    assert done.code == 5
    assert "take the file named north.study-key.sealed of epoch 1" in done.err
    mine = desk.root / "sealed-1" / "north.study-key.sealed"
    text = site.read_text()
    for changed, code, said in (
        (text.replace('"north"', '"south"'), 5, "check party and contributor in the site file"),
        (text.replace('"north"', '"nord"'), 3, "its contributors: north, south"),
        (text.replace('contributor = "north"\n', ""), 3, "names itself here, one of north, south"),
    ):
        assert changed != text
        site.write_text(changed)
        done = call(keys.app, "open", mine, "--site", site)
        assert (done.code, said in done.err) == (code, True), done.err
    done = call(cli.app, "tokenize", "--site", site)
    assert (done.code, "names itself here" in done.err) == (3, True), done.err


def test_two_studies_are_compared_field_by_field(desk: Desk) -> None:
    signed = desk.sign(WITH_HOSPITALS)
    same = ok(study.app, "compare", signed, signed, "--json").json
    assert same == {"encodings_compare": True, "why_not": [], "differences": []}
    other = desk.root / "other.toml"
    changed = WITH_HOSPITALS.replace("bits = 140", "bits = 120").replace(
        'purpose = "To test with"', 'purpose = "To test with"\nminimum_cell = 20'
    )
    changed = changed.replace('"date_of_birth", "sex", "zip"]', '"date_of_birth", "sex"]')
    changed = changed.replace('id = "sound-dob"', 'id = "initial-dob"')
    other.write_text(changed.replace('["north", "south"]', '["north"]'))
    found = ok(study.app, "compare", signed, other, "--json").json
    assert found["encodings_compare"] is False
    assert len(found["why_not"]) == 3
    assert any("120" in line and "date_of_birth" in line for line in found["why_not"])
    told = {one["place"]: (one["left"], one["right"]) for one in found["differences"]}
    assert told["study, minimum_cell"] == ("11", "20")
    assert told["party alpha, contributors"] == ("north, south", "north")
    assert told["party beta, fields"][1] == "first_name, last_name, date_of_birth, sex"
    assert told["clk name-dob-sex, fields, date_of_birth, bits"] == ("140", "120")
    assert told["match_key sound-dob"] == ("there", "(not there)")
    assert told["match_key initial-dob"] == ("(not there)", "there")
    shown = ok(study.app, "compare", signed, other).out
    assert "records encoded by these two DO NOT COMPARE" in " ".join(shown.split())
    assert "reason 3" in shown
    second = desk.sign(WITH_HOSPITALS.replace('title = "A', 'epoch = 2\ntitle = "A'), 2)
    of_keys = ok(study.app, "compare", signed, second, "--json").json
    assert of_keys["encodings_compare"] is False, "two epochs never do"
    assert len(of_keys["why_not"]) == 1
    assert "epoch" in of_keys["why_not"][0]
    places = [one["place"] for one in of_keys["differences"]]
    assert places == ["study, epoch", "signed, key check"]


def test_a_broker_of_record_stops_a_custodian(desk: Desk, tmp_path: Path) -> None:
    signed = desk.sign(WITH_HOSPITALS)
    own = ("--custodian", desk.custodian / "custodian.key")
    key = ("--key", desk.custodian / "study-1.key")
    elsewhere = tmp_path / "far" / "away" / "broker"
    create_home(elsewhere, allow_rehearsal=True)
    ok(keys.app, "new", desk.custodian / "fine.key")
    config = elsewhere / "config.toml"
    config.write_text(config.read_text().replace("allow_rehearsal = true", ""))
    roles.remember("broker", elsewhere)
    for app, words in (
        (keys.app, ("identity", desk.root / "c2", "--name", CUSTODIAN)),
        (keys.app, ("new", desk.custodian / "more.key")),
        (keys.app, ("seal", signed, *key, *own, "--out", desk.root / "s")),
        (keys.app, ("deactivate", signed, *own, "--reason", "test", "--out", desk.root / "n")),
        (study.app, ("sign", desk.root / "study-1.toml", *key, *own, *desk.public(), "--out", "x")),
    ):
        done = call(app, *words)
        assert done.code == 5, words
        assert "broker and custodian are different organisations" in done.err, words
    ok(keys.app, "identity", desk.root / "delta" / "private", "--name", "delta")


def test_a_custodian_of_this_account_stops_a_broker(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="different organisations"):
        create_home(tmp_path / "far" / "away" / "broker")
