"""How messages are written for people on a page."""

from __future__ import annotations

from broker.web.rendering import _plain, _say


def test_the_words_of_a_command_stay_whole_and_a_path_may_break() -> None:
    told = _say("ask for a new one: `linkage-broker restore /a/path/that/is/rather/long` or <b>")
    assert told.startswith("Ask for")
    assert '<span class="nobr">linkage-broker</span> <span class="nobr">restore</span> /a' in told
    assert told.endswith("&lt;b&gt;")


def test_a_hint_is_a_sentence_and_thousands_stand_apart() -> None:
    told = _plain("a record occurs twice. Hint: 12,000 ids must be unique")
    assert told == "A record occurs twice. 12\N{NARROW NO-BREAK SPACE}000 ids must be unique."
