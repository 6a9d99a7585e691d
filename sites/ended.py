"""
Which cohorts nobody uses any more, as far as this site was told: for what works offline.

    remember_ended(session, question)              whenever the broker shows a question
    require_in_use(cohort.report, vault)           before a delivered folder is used again

Kept in the private folder: the reason why a question with a delivery ended. What this party's own
steward decided stands in `decisions/` there, and the last day in the delivered folder itself. A
revocation that this site was never told of it cannot know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from linkage.errors import Conflict, KeyRefused
from linkage.messages import Approval, QuestionState
from linkage.sealing import read_secret
from sites.config import load_site
from sites.private_file import private_file
from sites.questions import over
from sites.session import Session
from sites.vault import Vault

_FOLDER = "ended"


def remember_ended(session: Session, question: QuestionState) -> None:
    """Keep that a question with a delivery has ended, and why, where the broker says so."""
    if not question.stopped or question.delivery_id is None:
        return
    path = session.vault.folder / _FOLDER / f"{question.question_id}.json"
    content = json.dumps({"why": question.stopped, "newer": question.newer})
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        with private_file(path) as file:
            file.write(content)


def require_in_use(report: Mapping[str, Any], vault: Vault | None) -> None:
    """
    Raises Conflict where a delivered cohort is known to be used by nobody any more.

    report: its report.json. vault: of the site that joined it; None: only its last day is checked.
    """
    trace = report.get("trace") or {}
    question = str(trace.get("question") or "")
    why, newer = "", ""
    if last := str(trace.get("expires") or ""):
        why = f"its last day was {last}" if over(last) else ""
    if vault is not None and question and not why:
        why, newer = _told(vault, question)
        why = why or _decided(vault, question)
    if why:
        raise Conflict(
            f"nobody uses this cohort any more: {why}",
            hint=f"take {newer}, which asks the same" if newer else "ask for it anew",
        )


def known_state(site_file: Path, *, default: Path) -> Vault | None:
    """Return the private folder of a site file; None where the default one is not there."""
    if site_file == default and not site_file.exists():
        return None
    site = load_site(site_file)
    return Vault(site.private, site.keys)


def _told(vault: Vault, question: str) -> tuple[str, str]:
    try:
        kept = json.loads((vault.folder / _FOLDER / f"{question}.json").read_text("utf-8"))
        return str(kept["why"]), str(kept["newer"])
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError, KeyError, TypeError):
        # Something ended it; that the words are lost is no reason to go on.
        return "this site was told so, and the reason cannot be read", ""


def _decided(vault: Vault, question: str) -> str:
    path: Path = vault.folder / "decisions" / f"{question}.json"
    if not path.exists():
        return ""
    try:
        own = Approval.model_validate(json.loads(read_secret(path))["approval"])
    except (ValueError, KeyError, TypeError, KeyRefused, ValidationError):
        return ""  # then it is no decision, as for every other command
    if own.decision == "approve":
        return f"this party's approval ended on {own.expires}" if over(own.expires) else ""
    return {"deny": "denied", "revoke": "revoked"}[own.decision] + " by this party's steward"
