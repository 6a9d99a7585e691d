"""What `linkage-site status` asks of each site once the broker has the study's next epoch."""

from __future__ import annotations

from linkage.messages import StudyState
from sites.upload import epoch_notice
from tests.studies import STUDY, cast, excepted

WITH_HOSPITALS = STUDY.replace('id = "alpha"', 'id = "alpha"\ncontributors = ["north", "south"]')


def test_a_new_epoch_asks_of_each_what_it_can_do() -> None:
    signed = cast(excepted(WITH_HOSPITALS)).signed
    now = StudyState(
        study_id="small-study", title="", study_hash="next", rehearsal=False, epoch=2, parties=()
    )
    keys_open = "`linkage-site keys open`, tokenize, submit"
    take = "take the newest signed study and sealed key from the custodian"
    assert epoch_notice(now, signed, "north").endswith(f": {take}, {keys_open}")
    assert epoch_notice(now, signed, "beta").endswith(
        f": {take}, `linkage-site confirm`, {keys_open}"
    )
    commons = ": take the newest signed study from the custodian, `linkage-site confirm`"
    assert epoch_notice(now, signed, "alpha").endswith(commons)
