"""
Commercial use is a purpose of its own: over a real broker, a study declares it, a specification
asks for it, and each commons' terms allow it or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from linkage.errors import NotAllowed
from sites.allowing import allow
from sites.answers import answer_imaging, send_rows
from sites.cohort_cli import app
from sites.enclave import count, join
from sites.questions import decide
from tests.broker_world import make_world, running
from tests.cohort_world import TWO_PARTIES, Sites
from tests.questions import question as asked

pytestmark = pytest.mark.long

FOR_PROFIT = TWO_PARTIES.replace('purpose = "To test with"', 'purpose = "x"\nuse = "commercial"')
BOUND_TO = "With a licence of ours."
SPEC = """
[cohort]
id = "a-product"
title = "Chest CT for a product"
purpose = "Train a product"
use = "{use}"
[imaging]
modality = "CT"
[clinical]
any = true
"""
CT = {"modality": ["CT"]}


def terms(side: str, *, commercial: bool) -> str:
    """Lines of a site file after [imaging] or [omop]."""
    text = f'[{side}.use]\ncommons = "The {side} commons"\nacknowledgement = "Thanks."\n'
    text += 'non_commercial = "Free."\n'
    return text + (f'commercial = "{BOUND_TO}"\n' if commercial else "")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("use")
    with running(make_world(folder)) as world:
        sites = Sites(
            world, folder / "use", imaging=range(60), enclave=range(20, 80), text=FOR_PROFIT
        )
        yield sites
        sites.close()


def request(sites: Sites, folder: Path, use: str) -> tuple[int, str]:
    """Ask at the enclave's terminal, as a researcher; return exit code and what was printed."""
    spec = folder / "cohort.toml"
    spec.write_text(SPEC.format(use=use))
    words = ["request", str(spec), "--folder", str(folder / "keys")]
    words += ["--site", str(sites.site_file("enclave"))]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
    return done.exit_code, " ".join(done.output.split())


def test_a_question_for_another_use_than_the_study_is_refused(sites: Sites, tmp_path: Path) -> None:
    code, said = request(sites, tmp_path, "non-commercial")
    assert code != 0
    assert "the study is for commercial use, and the question asks for non-commercial use" in said
    assert 'write use = "commercial" into [cohort]' in said
    assert not list((tmp_path / "keys").glob("*.key"))


def test_terms_that_forbid_it_refuse_a_commercial_question(sites: Sites, tmp_path: Path) -> None:
    # Where it is asked, before anything is sent.
    code, said = request(sites, tmp_path, "commercial")
    assert code != 0
    assert "the terms of 'enclave' do not allow commercial use" in said

    question = sites.ask(imaging=CT, clinical={"any": True}, use="commercial")
    sites.write_site("imaging", 'questions = "auto"', terms("imaging", commercial=False))
    with sites.session("imaging") as imaging:
        about = imaging.broker.question(imaging.study_id, question)
        assert about.use == "commercial"
        for attempt in (
            lambda: allow(imaging, about, by="person"),
            lambda: decide(imaging, question, "approve"),
            lambda: answer_imaging(imaging, question),
            lambda: send_rows(imaging, question, "delivery-none"),
        ):
            with pytest.raises(NotAllowed, match="terms of 'imaging' do not allow commercial use"):
                attempt()
    with sites.session("enclave") as enclave:
        for attempt in (
            lambda: count(enclave, question),
            lambda: join(enclave, question, tmp_path),
        ):
            with pytest.raises(NotAllowed, match="terms of 'enclave' do not allow commercial use"):
                attempt()
    # The agent says so, and denies it, so that who asked need not wait.
    (event,) = [e for e in sites.look("imaging") if e.subject == question]
    assert (event.state, event.said) == (
        "refused",
        "refused: this commons' terms do not allow commercial use",
    )
    with sites.session("imaging") as imaging:
        about = imaging.broker.question(imaging.study_id, question)
        assert about.approvals == {"imaging": "deny"}


def test_where_both_allow_it_the_terms_that_are_delivered_are_its_own(
    sites: Sites, tmp_path: Path
) -> None:
    for party, side in (("imaging", "imaging"), ("enclave", "omop")):
        sites.write_site(party, "", terms(side, commercial=True))
    code, said = request(sites, tmp_path, "commercial")
    assert code == 0, said
    question = sites.ask(imaging=CT, clinical={"any": True}, use="commercial")
    for party in ("imaging", "enclave"):
        with sites.session(party) as site:
            decide(site, question, "approve")
    with sites.session("imaging") as imaging:
        answer_imaging(imaging, question)
    delivery = sites.deliver(question)
    with sites.session("imaging") as imaging:
        send_rows(imaging, question, delivery)
    with sites.session("enclave") as enclave:
        join(enclave, question, tmp_path / "cohort")
    text = (tmp_path / "cohort" / "USE_TERMS.txt").read_text()
    assert "approved this cohort for commercial use" in text
    assert text.count(f"Commercial use, as approved:\n\n    {BOUND_TO}") == 2
    # Terms that changed since are today's: what was approved under others is not joined again.
    sites.write_site("enclave", "", terms("omop", commercial=False))
    with sites.session("enclave") as enclave, pytest.raises(NotAllowed, match="do not allow"):
        join(enclave, question, tmp_path / "again")


def test_the_broker_cannot_exchange_the_use(sites: Sites) -> None:
    for use in ("commercial", "non-commercial"):
        one = asked(imaging=CT, use="commercial").model_copy(update={"use": use})
        path = f"{sites.world.path}/questions"
        answer = sites.world.actor("admin").post(path, one)
        assert answer.status_code == (202 if use == "commercial" else 422), answer.text
