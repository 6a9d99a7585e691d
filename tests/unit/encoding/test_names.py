"""Names: one form of many writings, surnames apart, nicknames and placeholders."""

from __future__ import annotations

import pytest

from linkage.encoding import whys
from linkage.encoding.columns import Coded
from linkage.encoding.fields import Normaliser, apply
from linkage.encoding.nicknames import _table, formal_name, table_digest
from linkage.encoding.rules import APOSTROPHES


def values(field: str, *texts: str) -> list[str]:
    return Normaliser(field).column(list(texts)).column.texts()


def why(field: str, text: str) -> str:
    return Normaliser(field).column([text]).why.texts()[0]


def test_one_form_of_accents_case_and_hyphens() -> None:
    for field in ("first_name", "middle_name"):
        forms = ["María-José", "maria jose", "MARIA JOSE", "Mari\u0301a Jose\u0301", "Maria'Jose",
                 "Maria\u2010Jose", "Maria\u00a0Jose",
                 "\uff2d\uff21\uff32\uff29\uff21\u3000Jose"]  # fmt: skip
        assert set(values(field, *forms)) == {"mariajose"}


def test_one_form_of_every_apostrophe() -> None:
    forms = [f"O{chr(code)}Brien" for code in APOSTROPHES]
    assert set(values("last_name", "OBrien", "O Brien", "O'Brien", *forms)) == {"obrien"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Md Rahman", "mdrahman"),
        ("Ke'lth", "kelth"),
        ("J.R.", "jr"),
        ("Hon", "hon"),
        ("Sr. Mary", "srmary"),
        ("Capt. James", "james"),
        ("D'Brickashaw", "dbrickashaw"),
        ("Anne-Marie", "annemarie"),
        ("Just:n", "justn"),
        ("Jil|", "jill"),
        ("M. Night", "mnight"),
    ],
)
def test_first_names(text: str, expected: str) -> None:
    assert values("first_name", text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OBrien", "obrien"),
        ("D\u2019Angelo", "dangelo"),
        ("Ng", "ng"),
        ("Ive", "ive"),
        ("Muñoz", "munoz"),
        ("Smith Jr.", "smith"),
        ("SMITH MD", "smith"),
        ("Smith Ph.D.", "smith"),
        ("Silva Junior", "silva"),
        ("Junior", "junior"),
        ("Nguyen Do", "nguyen-do"),
        ("Smith V", "smithv"),
        ("Van", "van"),
        ("Nguyen Van", "nguyen-van"),
        ("De La Cruz-Smith", "delacruz-smith"),
        ("Smith/Jones", "smith-jones"),
        ("bin Laden", "binladen"),
        ("El-Sayed Mac Donald", "elsayed-macdonald"),
        ("Smith J", "smithj"),
        ("Smith aka Jones", "smith"),
        ("Nee", "nee"),
        ("d-r smith", "smith"),
        ("Minor", "minor"),
        ("Son", "son"),
    ],
)
def test_last_names(text: str, expected: str) -> None:
    assert values("last_name", text) == [expected]


def test_the_field_joins_several_surnames_and_transforms_part_them() -> None:
    column = Normaliser("last_name").column(["Smith-Jones", "Garcia de la Cruz", "Lee", ""]).column
    for ref, expected in {
        "last_name": ["smithjones", "garciadelacruz", "lee", ""],
        "last_name:first_surname": ["smith", "garcia", "lee", ""],
        "last_name:last_surname": ["jones", "delacruz", "lee", ""],
        "last_name:8": ["smithjon", "garciade", "lee", ""],
        "last_name:initial": ["s", "g", "l", ""],
        "last_name:sound": ["S532", "G623", "L000", ""],
    }.items():
        assert apply(ref, column).texts() == expected


@pytest.mark.parametrize(
    "text",
    ["baby", "BabyGirl A", "Baby Boy 2", "Man In The", "Adult Male", "No Name", "lady", "Newborn",
     "Householder", "fnu", "Trauma", "not given"],
)  # fmt: skip
def test_words_that_stand_for_a_person(text: str) -> None:
    assert whys.kind_of(why("first_name", text)) == "placeholder"


@pytest.mark.parametrize(
    "text", ["Of The House", "Wife", "Householder", "declined", "ZZTEST", "--"]
)
def test_last_names_of_nobody(text: str) -> None:
    assert whys.kind_of(why("last_name", text)) == "placeholder"


def test_one_letter_is_an_initial_and_no_first_name() -> None:
    column = Normaliser("first_name").column(["A", "Anna"]).column
    assert apply("first_name", column).texts() == ["", "anna"]
    assert apply("first_name:3", column).texts() == ["", "ann"]
    assert apply("first_name:sound", column).texts() == ["", "A500"]
    assert apply("first_name:formal", column).texts()[0] == ""
    assert apply("first_name:initial", column).texts() == ["a", "a"]
    assert apply("first_name:1", column).texts() == ["a", "a"]
    assert apply("middle_name", Coded.of(["a"])).texts() == ["a"]


FORMAL = {
    "debby": "deborah", "debbie": "deborah", "missy": "melissa", "bob": "robert",
    "bobby": "robert", "bill": "william", "mike": "michael", "liz": "elizabeth", "jack": "john",
    "peggy": "margaret", "tony": "anthony", "andy": "andrew", "sandy": "sandra",
    "mary": "mary", "ann": "ann", "john": "john", "jonathan": "jonathan", "zelda": "zelda",
}  # fmt: skip


def test_formal_names() -> None:
    assert {name: formal_name(name) for name in FORMAL} == FORMAL


def test_a_formal_name_is_its_own_formal_name_and_normal() -> None:
    assert all(formal_name(formal) == formal for formal in _table().values())
    assert all(name.isascii() and name.isalpha() and name.islower() for name in _table().values())


def test_the_nickname_table_is_the_one_that_made_the_keys() -> None:
    """Another digest means other match keys: raise NORMALISATION_VERSION with it."""
    assert table_digest() == "ab4d4f033f8faf10e57881a8c75d79a4e88bff954eac536bf228f515145d39cf"
