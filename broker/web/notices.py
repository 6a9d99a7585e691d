"""
What a page says after something was done. An address names a notice by its key, so that no text of
an address is ever shown, and loading the page again does nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping

NOTICES: Mapping[str, str] = {
    "signed-out": "You are signed out.",
    "signed-out-everywhere": "All your sessions are over, on every device.",
    "run-started": "The run is asked for. This page follows it.",
    "run-there": "This run was there already, made of the same: nothing new was started.",
    "run-cancelled": "The run is cancelled.",
    "session-over": "Your session is over. Sign in, and you come back to where you were.",
    "not-done": "Nothing was done: your session is over. Sign in, then do it again.",
    "not-confirmed": "Nothing was done: the name that you typed is another one.",
    "look-ended": "The run waits no longer for answers, and goes on.",
    "study-closed": "The study is closed. What is under way ends by itself.",
    "study-reopened": "The study goes on where it was.",
    "study-destroyed": "The destruction is ordered; the worker carries it out.",
    "question-proposed": "Your question is on its way to the enclave's agent.",
    "proposed": "It is on its way to your site's agent, which signs it.",
    "proposal-withdrawn": "You took it back; nothing was done.",
    "release-asked": "The release is asked for.",
    "release-cancelled": "The release is cancelled; nobody gets IDs of it.",
    "decision-proposed": "Your decision is on its way to your party's agent.",
    "decision-withdrawn": "Your decision is taken back; nothing was decided.",
    "review-opened": "The review is being opened. Reviewers see it within seconds.",
    "review-closing": "The review takes no more answers. A worker judges them.",
    "answer-taken-back": "Your answer is taken back. Here is its pair again.",
    "head-wished": "A worker signs a head within seconds.",
    "roles-changed": "The roles are changed, also in open sessions.",
    "account-disabled": "The account is disabled; its sessions are over.",
    "account-enabled": "The account is let in again.",
    "quota-set": "The quota is set; what is here stays.",
    "rechecked": "The worker opens it again; look here in a moment.",
    "study-registered": "The study is registered.",
    "study-known": "It was registered already: nothing is changed.",
    "key-retired": "The notice is taken: nothing of that epoch is uploaded any more.",
    "access-suspended": "Its access is suspended, and its tokens have ended.",
    "access-restored": "It may sign in again, with the key that is shown.",
}
"""By key; what is no key here says nothing."""
UNDONE = frozenset({"session-over", "not-done", "not-confirmed"})
"""Notices of what was not done: they look like it."""
