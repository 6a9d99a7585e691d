"""What a steward types: confirm, opt out, and read the certificate, against a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.container import Broker
from linkage.encoding.keys import StudyKey
from linkage.messages import CUSTODIAN
from sites.cli import app
from sites.opting_out import CANNOT_BE_RECALLED
from sites.vault import Vault
from tests.broker_world import World, make_world, running, sign_for, wait_for

PARTIES = ("imaging", "enclave", "claims")


class Stewards:
    """Three sites' folders beside one real broker that holds their study as a draft."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder, key = world, folder, StudyKey.generate()
        signed, identities = sign_for(world.home.public(), "governed", rehearsal=False)
        checked = {"key_check": key.key_check(signed.study)}
        signed = signed.model_copy(update=checked).sign(identities[CUSTODIAN])
        self.told = signed.pin(CUSTODIAN).fingerprint
        admin = world.actor("admin")
        admin.post("/v1/studies", signed, custodian_fingerprint=self.told).raise_for_status()
        world.signed, world.identities = signed, identities
        for party in PARTIES:
            vault = self.vault(party)
            vault.folder.mkdir(parents=True, mode=0o700)
            identities[party].save(vault.identity_file)
            key.save(vault.study_key_file)
            vault.signed_study_file.write_text(signed.model_dump_json())
            (folder / party / "site.toml").write_text(
                f'party = "{party}"\n[broker]\nurl = "{world.url}"\ncustodian = "{self.told}"\n'
            )

    def vault(self, party: str) -> Vault:
        return Vault(self.folder / party / "private")

    def type(self, party: str, *words: str) -> tuple[int, str]:
        """Run `linkage-site` at a site; return its exit code and all that it prints."""
        done = CliRunner().invoke(app, [*words, "--site", str(self.folder / party / "site.toml")])
        return done.exit_code, " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def stewards(tmp_path: Path) -> Iterator[Stewards]:
    with running(make_world(tmp_path)) as world:
        yield Stewards(world, tmp_path)


def test_what_a_steward_types(stewards: Stewards) -> None:
    _confirms(stewards)
    _opts_out(stewards)
    _reads_the_certificate(stewards)


def _confirms(stewards: Stewards) -> None:
    code, said = stewards.type("claims", "status")
    assert code == 0, said
    assert "draft: no uploads before every party has run" in said
    code, said = stewards.type("imaging", "confirm")
    assert code == 0, said
    assert "Dry run: would confirm the signed study" in said
    for told in ("A small study (epoch 1)", "enclave (enclave)", "second looks never"):
        assert told in said
    assert "linkage-site confirm --yes" in said
    # Somebody has put another study in place of what the custodian sent.
    other, _ = sign_for(
        stewards.world.home.public(),
        "governed",
        rehearsal=False,
        identities=stewards.world.identities,
    )
    file = stewards.vault("imaging").signed_study_file
    mine = file.read_text()
    file.write_text(other.model_dump_json())
    code, said = stewards.type("imaging", "confirm", "--yes")
    assert code == 5, said
    assert "the broker holds another signed study" in said
    file.write_text(mine)
    for party, waiting in (("imaging", "enclave, claims"), ("enclave", "claims")):
        code, said = stewards.type(party, "confirm", "--yes")
        assert code == 0, said
        assert f"still to confirm {waiting}" in said
    code, said = stewards.type("claims", "confirm", "--yes")
    assert "still to confirm nobody" in said
    assert "the study is open" in said
    assert stewards.type("claims", "confirm", "--yes")[0] == 0, "twice is once"


def _opts_out(stewards: Stewards) -> None:
    listed = stewards.folder / "opted-out.csv"
    listed.write_text("record_id\nc-1\nc-2\n")
    code, said = stewards.type("claims", "opt-out", str(listed), "--dry-run")
    assert code == 0, said
    assert stewards.type("claims", "opt-out", "--show")[1] == "This site has opted nothing out"
    code, said = stewards.type("claims", "opt-out", str(listed))
    assert code == 0, said
    assert "opted out in all 2" in said
    assert " ".join(CANNOT_BE_RECALLED.split()) in said
    assert "c-1" not in said
    assert stewards.vault("claims").kept("opted-out-1.statement") is not None
    wait_for(lambda: "Nothing that was given out" in _shown(stewards), 60)
    listed.write_text("record_id\nc-1\n")
    code, said = stewards.type("claims", "opt-out", str(listed), "--lift")
    assert code == 0, said
    assert "No longer opted out" in said
    assert "opted out in all 1" in said
    code, said = stewards.type("claims", "opt-out")
    assert code == 4, said
    assert "needs a list of record ids" in said


def _shown(stewards: Stewards) -> str:
    return stewards.type("claims", "opt-out", "--show")[1]


def _reads_the_certificate(stewards: Stewards) -> None:
    code, said = stewards.type("claims", "certificate")
    assert code == 6, said
    assert "not destroyed" in said
    broker = Broker.at(stewards.world.home)
    broker.lifecycle.close("console", "governed")
    assert "closed: nothing new is taken" in stewards.type("claims", "status")[1]
    broker.lifecycle.destroy("console", "governed", confirm="governed")
    broker.database.close()
    wait_for(lambda: stewards.type("claims", "certificate")[0] == 0, 60)
    code, said = stewards.type("claims", "certificate")
    assert "Study governed is destroyed" in said
    assert "REMAINS (1) the signed study files" in said
    kept = stewards.vault("claims").folder / "destruction-certificate.json"
    stewards.world.stop()
    assert stewards.type("claims", "certificate", str(kept))[0] == 0, "offline"
    kept.write_bytes(kept.read_bytes().replace(b'"asked_by":"console"', b'"asked_by":"nobody_"'))
    code, said = stewards.type("claims", "certificate", str(kept))
    assert code == 5, said
