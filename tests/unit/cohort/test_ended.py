"""A cohort that nobody uses any more, as far as its site was told, is not used offline either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linkage.errors import Conflict
from linkage.messages import QuestionState
from sites.ended import known_state, remember_ended, require_in_use
from sites.questions import decide
from sites.vault import Vault
from tests.unit.sites.test_agent import QUESTION, session

REPORT: dict[str, Any] = {"trace": {"question": "question-1", "expires": "2999-12-31"}}


def stopped(**changed: Any) -> QuestionState:
    content = {"delivery_id": "delivery-1", "stopped": "revoked by: beta", "newer": "question-2"}
    return QUESTION.model_copy(update=content | changed)


def test_what_the_broker_told_is_kept_and_found_again(tmp_path: Path) -> None:
    here, _ = session(tmp_path)
    require_in_use(REPORT, here.vault)
    remember_ended(here, stopped(stopped=""))
    remember_ended(here, stopped(delivery_id=None))
    require_in_use(REPORT, here.vault)
    remember_ended(here, stopped())
    with pytest.raises(Conflict, match="revoked by: beta") as caught:
        require_in_use(REPORT, here.vault)
    assert caught.value.hint == "take question-2, which asks the same"
    # Of another question nothing is known, nor without the site.
    require_in_use({"trace": {"question": "question-3"}}, here.vault)
    require_in_use(REPORT, None)
    (kept,) = (here.vault.folder / "ended").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    kept.write_text("{")
    with pytest.raises(Conflict, match="cannot be read"):
        require_in_use(REPORT, here.vault)


@pytest.mark.parametrize("decision", ["deny", "revoke"])
def test_the_own_steward_s_no_counts_without_the_broker(tmp_path: Path, decision: Any) -> None:
    here, _ = session(tmp_path)
    decide(here, "question-1", "approve")
    require_in_use(REPORT, here.vault)
    decide(here, "question-1", decision)
    with pytest.raises(Conflict, match="by this party's steward"):
        require_in_use(REPORT, here.vault)


def test_last_days_count(tmp_path: Path) -> None:
    here, _ = session(tmp_path)
    with pytest.raises(Conflict, match="its last day was 2001-01-01"):
        require_in_use({"trace": {"question": "question-1", "expires": "2001-01-01"}}, None)
    decide(here, "question-1", "approve", expires="2001-01-01")
    with pytest.raises(Conflict, match="approval ended on 2001-01-01"):
        require_in_use(REPORT, here.vault)
    require_in_use({}, here.vault)


def test_the_site_file_is_looked_for_where_commands_look(tmp_path: Path) -> None:
    default = tmp_path / "site.toml"
    assert known_state(default, default=default) is None
    default.write_text('party = "alpha"\nprivate = "private"\n')
    found = known_state(default, default=default)
    assert isinstance(found, Vault)
    assert found.folder == tmp_path / "private"
    assert json.dumps(str(found.folder))
