"""Streets: the short way equals the whole rule; numbers, parts and other small fields."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linkage.encoding import streets, whys
from linkage.encoding.columns import Coded
from linkage.encoding.fields import Normaliser, Reading, apply
from linkage.encoding.phones import PhoneRule
from linkage.encoding.streets import StreetRule, street

WORD = st.one_of(
    st.sampled_from("n north main St STREET apt unit # lot 4 4b 56th first box po p.o. av 12-34 1/2"
                    " saint john's no a 1 2".split()),
    st.text(alphabet="abst019#-/.' ", min_size=1, max_size=5),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(WORD, min_size=1, max_size=6).map(" ".join))
def test_the_rule_with_a_memory_equals_the_plain_rule(text: str) -> None:
    rule = StreetRule()
    for number in ("", "1 ", "12 ", "0034 "):
        assert rule(f"{number}{text}") == street(f"{number}{text}")
    assert rule(text) == street(text)


def test_remembered_streets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streets, "REMEMBERED", 3)
    rule = StreetRule()
    for name in "abcdefgh":
        assert rule(f"12 {name * 3} street") == (f"12 {name * 3} st", "")
        assert len(rule._known) <= 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("536 McCampbell", "536 mccampbell"), ("123 n main st #4", "123 n main st"),
        ("13330 bayberry drive", "13330 bayberry dr"), ("3 1/2 First Street", "3 1st st"),
        ("40 forest valley crt ne", "40 forest vly ct ne"), ("PO BOX 12", "pobox 12"),
        ("21191 lotus # 923 pkwy", "21191 lotus 923 pkwy"), ("1 graft ro", "1 graft rd"),
        ("7 oak ln unit 4 #5", "7 oak ln"), ("7 oak ln, Unit 4-B", "7 oak ln"),
        ("7 lot ln", "7 lot ln"), ("Saint John's Road", "st johns rd"),
        ("12 apt 4 apt 5", ""), ("--- 2 -", ""), ("General Delivery", ""), ("shelter", ""),
        ("Same as above", ""), ("returned mail", ""),
    ],
)  # fmt: skip
def test_streets(text: str, expected: str) -> None:
    assert Normaliser("street").column([text]).column.texts() == [expected]


@pytest.mark.parametrize(
    ("ref", "value", "expected"),
    [
        ("date_of_birth:year", "19710705", "1971"),
        ("date_of_birth:month", "19710705", "07"),
        ("date_of_birth:day", "19710705", "05"),
        ("date_of_birth:year_month", "19710705", "197107"),
        ("date_of_birth:month_day", "19710705", "0705"),
        ("first_name:sound", "robert", "R163"),
        ("last_name:sound", "pfister", "P236"),
        ("last_name:3", "ng", "ng"),
        ("ssn:first5", "447207986", "44720"),
        ("ssn:first5", "7986", ""),
        ("ssn:5", "7986", ""),
        ("zip:3", "02139", "021"),
        ("zip:4", "021", ""),
        ("zip:2", "021", "02"),
        ("phone", "16172531000", "16172531000"),
        ("phone:last7", "16172531000", "2531000"),
        ("phone:4", "2531000", ""),
        ("street:house_number", "123 n main st", "123"),
        ("street:house_number", "pobox 12", ""),
        ("street:house_number", "1st ave", ""),
        ("street:house_number", "255", "255"),
        ("street:street_name", "123 n main st", "main"),
        ("street:street_name", "111 nw 1st ter", "1st"),
        ("street:street_name", "1st ave", "1st"),
        ("street:street_name", "12 n st", "st"),
        ("street:street_name", "5 ave a", "ave a"),
        ("street:street_name", "69 s hwy 701", "hwy 701"),
        ("street:street_name", "255", "255"),
    ],
)
def test_transforms(ref: str, value: str, expected: str) -> None:
    assert apply(ref, Coded.of([value, "", value])).texts() == [expected, "", expected]


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"1?[2-9][0-9]{2}[2-9][0-9]{6}", fullmatch=True))
def test_american_numbers_are_read_as_the_library_reads_them(digits: str) -> None:
    import phonenumbers

    value, why = PhoneRule("US")(digits)
    if not why:
        found = phonenumbers.parse(digits, "US")
        e164 = phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)
        assert f"+{value}" == e164


@pytest.mark.parametrize(
    ("region", "text", "expected"),
    [
        ("GB", "020 7946 0958", "442079460958"),
        ("GB", "+1 617 253 1000", "16172531000"),
        ("DE", "030 123456", "4930123456"),
        ("US", "tel:+1-617-253-1000", "16172531000"),
        ("US", "442079460958", "442079460958"),
        ("CA", "416 253 1000", "14162531000"),
    ],
)
def test_numbers_of_other_countries(region: str, text: str, expected: str) -> None:
    found = Normaliser("phone", Reading(phone_region=region)).column([text])
    assert (found.column.texts(), found.why.texts()) == ([expected], [""])


@pytest.mark.parametrize("text", ["000 00 6789", "000-00-6789", "xxx-xx-6789", "•••-••-6789"])
def test_masked_social_security_numbers(text: str) -> None:
    found = Normaliser("ssn").column([text])
    assert (found.column.texts(), found.why.texts()) == (["6789"], [whys.LAST_FOUR])


@pytest.mark.parametrize(
    ("code", "expected"),
    [("M", "m"), ("man", "m"), ("F", "f"), ("woman", "f"), ("A", whys.OTHER_SEX),
     ("non-binary", whys.OTHER_SEX), ("8521", whys.OTHER_SEX), ("8551", whys.UNKNOWN_SEX),
     ("44814653", whys.UNKNOWN_SEX), ("N", whys.UNKNOWN_SEX), ("unknown", whys.UNKNOWN_SEX),
     ("2", whys.UNKNOWN_CODE), ("0000", whys.UNKNOWN_CODE)],
)  # fmt: skip
def test_codes_of_sex(code: str, expected: str) -> None:
    found = Normaliser("sex").column([code])
    assert expected in (found.column.texts()[0], found.why.texts()[0])
