"""
The downgrade corpus: ways to weaken a study by its text, each with the rule that must refuse it.

STUDY_FILES weakens the study file (linkage.study), SCHEMAS the linkage schema that a site encodes
by (linkage.schema); what clkhash itself would let pass is in tests/unit/encoding. A row is a name,
what to replace with what (every replacement must apply), and words of the refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CLK = 'id = "name-dob-sex"'
FIELDS = """\
    { field = "first_name" },
    { field = "last_name" },
    { field = "date_of_birth", bits = 140 },
    { field = "sex", bits = 40 },
"""
KEY = 'fields = ["first_name", "last_name", "date_of_birth"]'
HEAD = 'purpose = "To test with"'


@dataclass(frozen=True, slots=True)
class Weaker:
    """One weakened study file."""

    name: str
    old: str
    new: str
    rule: str


def _more(line: str) -> str:
    return f"{HEAD}\n{line}"


def _counts(line: str) -> str:
    return f"{KEY}\n\n[counts]\n{line}"


STUDY_FILES = (
    # The encoding itself.
    Weaker("no diffusion", CLK, f"{CLK}\ndiffusion = 0", "falls to graph matching"),
    Weaker("diffusion of 1", CLK, f"{CLK}\ndiffusion = 1", "falls to graph matching"),
    Weaker("diffusion of 4", CLK, f"{CLK}\ndiffusion = 4", "falls to graph matching"),
    Weaker("diffusion below none", CLK, f"{CLK}\ndiffusion = -10", "greater than or equal"),
    Weaker("diffusion that is true", CLK, f"{CLK}\ndiffusion = true", "falls to graph matching"),
    Weaker("diffusion in halves", CLK, f"{CLK}\ndiffusion = 10.5", "integer"),
    Weaker("diffusion in words", CLK, f'{CLK}\ndiffusion = "deep"', "integer"),
    Weaker("diffusion under another name", CLK, f"{CLK}\ndiffusion_depth = 10", "not a known key"),
    Weaker("diffusion in capitals", CLK, f"{CLK}\nDiffusion = 10", "not a known key"),
    Weaker("diffusion for all, in the head", HEAD, _more("diffusion = 10"), "not a known key"),
    Weaker("diffusion of a field", "bits = 140 }", "bits = 140, diffusion = 1 }", "not a known"),
    Weaker("the plain profile, unsaid", HEAD, _more('profile = "clkhash"'), "graph matching"),
    Weaker(
        "the plain profile, its risk denied",
        HEAD,
        _more('profile = "clkhash"\naccept_graph_matching_risk = false'),
        "graph matching",
    ),
    Weaker("an unknown profile", HEAD, _more('profile = "none"'), "'hardened' or 'clkhash'"),
    Weaker("a profile in capitals", HEAD, _more('profile = "CLKHASH"'), "'hardened' or 'clkhash'"),
    Weaker("three fields", '    { field = "sex", bits = 40 },\n', "", "at least 4 fields"),
    Weaker("no fields", FIELDS, "", "at least 4 fields"),
    Weaker(
        "one field four times",
        FIELDS,
        '    { field = "last_name" },\n' * 4,
        "at least 4 different fields",
    ),
    Weaker(
        "four parts of one field",
        FIELDS,
        "".join(
            f'    {{ field = "{ref}" }},\n'
            for ref in ("first_name", "first_name:initial", "first_name:3", "first_name:sound")
        ),
        "at least 4 different fields",
    ),
    Weaker("a field with one bit", "bits = 140", "bits = 1", "greater than or equal to 20"),
    Weaker("a field with no bit", "bits = 140", "bits = 0", "greater than or equal to 20"),
    Weaker("a field with all bits", "bits = 140", "bits = 4000", "less than or equal to 400"),
    Weaker("whole values as tokens", "bits = 140", "bits = 140, ngram = 20", "less than or equal"),
    Weaker("tokens of nothing", "bits = 140", "bits = 140, ngram = 0", "greater than or equal"),
    Weaker("a short CLK", CLK, f"{CLK}\nlength = 64", "64 bits are not possible"),
    Weaker("a CLK of odd length", CLK, f"{CLK}\nlength = 1000", "1000 bits are not possible"),
    Weaker(
        "a dense CLK",
        FIELDS,
        FIELDS.replace(" }", ", bits = 400 }", 2).replace("140", "400").replace("= 40 ", "= 400 ")
        + '    { field = "zip", bits = 400 },\n',
        "10 to 55 %",
    ),
    Weaker("a sparse CLK", CLK, f"{CLK}\nlength = 4096", "10 to 55 %"),
    Weaker("a CLK of one field is enough", CLK, f"{CLK}\nmin_fields = 1", "greater than or equal"),
    Weaker("a CLK of none", CLK, f"{CLK}\nmin_fields = 0", "greater than or equal"),
    Weaker("folding", CLK, f"{CLK}\nxor_folds = 1", "not a known key"),
    Weaker("folding as documented", CLK, f"{CLK}\nxorFolds = 1", "not a known key"),
    Weaker("double hashing", CLK, f'{CLK}\nhash = "doubleHash"', "not a known key"),
    Weaker("a key size", CLK, f"{CLK}\nkeySize = 1", "not a known key"),
    Weaker("a salt by year", CLK, f'{CLK}\nsalt = "year"', "not a known key"),
    Weaker("a secret in the file", HEAD, _more('secret = "horse"'), "not a known key"),
    Weaker("an identifier of the clinic", '"date_of_birth", bits', '"mrn", bits', "unknown field"),
    # Match keys.
    Weaker("a key over one field", KEY, 'fields = ["last_name"]', "at least 2"),
    Weaker("a key over nothing", KEY, "fields = []", "at least 2"),
    Weaker("a key over one field twice", KEY, 'fields = ["sex", "sex"]', "2 different fields"),
    Weaker(
        "a key over a field and its part",
        KEY,
        'fields = ["date_of_birth", "date_of_birth:year"]',
        "2 different fields",
    ),
    Weaker("a key over a field nobody has", KEY, 'fields = ["ssn", "zip"]', "no party holds"),
    Weaker("keys left as they repeat", KEY, f"{KEY}\nrepeats = 100", "not a known key"),
    Weaker("a preset that is none", HEAD, _more('match_key_presets = ["all"]'), "no preset"),
    Weaker("a rule in place of a preset's", 'id = "sound-dob"', 'id = "opentoken-t1"', "preset"),
    # What may be shown, and to whom.
    Weaker("small cells", HEAD, _more("minimum_cell = 5"), "too weak"),
    Weaker("cells of one", HEAD, _more("minimum_cell = 1"), "too weak"),
    Weaker("no cells at all", HEAD, _more("minimum_cell = 0"), "too weak"),
    Weaker("negative cells", HEAD, _more("minimum_cell = -11"), "too weak"),
    Weaker("counts that are not rounded", KEY, _counts("rounding = 0"), "greater than or equal"),
    Weaker("counts that hide by rounding", KEY, _counts("rounding = 50"), "more coarsely"),
    Weaker("a new count for every record", KEY, _counts("changed = 0"), "greater than or equal"),
    Weaker("counts without end", KEY, _counts("questions = 0"), "greater than or equal"),
    Weaker("another zero", KEY, _counts('zero = "exact"'), "merged"),
    Weaker("counts unblurred by a typo", KEY, _counts("nois = 6"), "not a known key"),
    Weaker("IDs for a stranger", '"alpha", "beta"]\n', '"alpha", "gamma"]\n', "is no party"),
    Weaker("IDs for the broker", '["alpha", "beta"]', '["broker"]', "is no party"),
    Weaker("images without cover", HEAD, _more('image_retrieval = "direct"'), "image_retrieval"),
    Weaker("no last day", HEAD, _more('expires = "never"'), "expires"),
    # Who is who.
    Weaker("a party that is the broker", 'id = "beta"', 'id = "broker"', "no party may be named"),
    Weaker("a party that is the custodian", 'id = "beta"', 'id = "custodian"', "no party may be"),
    Weaker("two parties of one name", 'id = "beta"', 'id = "alpha"', "two [[party]]"),
    Weaker("two enclaves", 'kind = "imaging"', 'kind = "enclave"', "two parties are of kind"),
    Weaker(
        "two CLKs of one name",
        "[[match_key]]",
        f"[[clk]]\n{CLK}\nfields = [\n{FIELDS}]\n\n[[match_key]]",
        "two [[clk]]",
    ),
    # The gate.
    Weaker("an exception without a reason", HEAD, _more('release_gate_exception = ""'), "reason"),
    Weaker("an exception of blanks", HEAD, _more('release_gate_exception = "   "'), "reason"),
    Weaker("an exception that is true", HEAD, _more("release_gate_exception = true"), "string"),
    Weaker("no records at most", "records = 100_000", "records = 0", "greater than or equal"),
    Weaker("records below none", "records = 100_000", "records = -1", "greater than or equal"),
    Weaker("a passed gate in the file", HEAD, _more("release_gate = true"), "not a known key"),
    # The file.
    Weaker("a key given twice", HEAD, f"{HEAD}\n{HEAD}", "not valid TOML"),
    Weaker("a table given twice", HEAD, f"{HEAD}\n[study]\nid = 'x-y'", "not valid TOML"),
    Weaker("an unknown table", HEAD, f"{HEAD}\n[debug]\nlog_values = true", "not a known key"),
    Weaker("a look-alike key", HEAD, _more('"рrofile" = "hardened"'), "not a known key"),  # noqa: RUF001
)

Weaken = Callable[[dict[str, Any]], Any]


def _all(schema: dict[str, Any], **hashing: Any) -> None:
    for feature in schema["features"]:
        feature["hashing"].update(hashing)


def _kdf(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["clkConfig"]["kdf"]
    return found


SCHEMAS: dict[str, tuple[Weaken, str]] = {
    # Beside those of tests/unit/encoding/test_schema.py.
    "one field four times": (
        lambda s: [f.update(identifier="last_name") for f in s["features"]],
        "fewer than 4 different fields",
    ),
    "four parts of one field": (
        lambda s: [
            f.update(identifier=f"first_name:{i}") for i, f in enumerate(s["features"], 1)
        ],
        "fewer than 4 different fields",
    ),
    "a key size in words": (lambda s: _kdf(s).update(keySize="64"), "keySize"),
    "a key size that is none": (lambda s: _kdf(s).update(keySize=None), "keySize"),
    "a key size in halves": (lambda s: _kdf(s).update(keySize=32.0), "keySize"),
    "info of blanks": (lambda s: _kdf(s).update(info="    "), "info"),
    "info that is a number": (lambda s: _kdf(s).update(info=1), "info"),
    "a salt that is none": (lambda s: _kdf(s).update(salt=None), "salt"),
    "a KDF hash of its own": (lambda s: _kdf(s).update(hash="SHA1"), "kdf.hash"),
    "iterations": (lambda s: _kdf(s).update(iterations=1), "iterations"),
    "a KDF that is text": (lambda s: s["clkConfig"].update(kdf="HKDF"), "kdf"),
    "no KDF": (lambda s: s["clkConfig"].pop("kdf"), "kdf"),
    "a length in words": (lambda s: s["clkConfig"].update(l="2048"), "clkConfig.l"),
    "a huge length": (lambda s: s["clkConfig"].update(l=1 << 40), "clkConfig.l"),
    "no length": (lambda s: s["clkConfig"].pop("l"), "l"),
    "diffusion switched off in the schema": (
        lambda s: s["clkConfig"].update(diffusion=0), "diffusion",
    ),
    "a hash for all, of version 1": (
        lambda s: s["clkConfig"].update(hash={"type": "doubleHash"}), "clkConfig.hash",
    ),
    "no hashing": (lambda s: s["features"][0].pop("hashing"), "hashing"),
    "a feature that is null": (lambda s: s["features"].__setitem__(0, None), "features[1]"),
    "a feature that is ignored": (lambda s: s["features"][0].update(ignored=True), "ignored"),
    "n-grams of nothing": (
        lambda s: _all(s, comparison={"type": "ngram", "n": 0}), "comparison.n",
    ),
    "n-grams of whole values": (
        lambda s: _all(s, comparison={"type": "ngram", "n": 30}), "comparison.n",
    ),
    "numeric comparison": (
        lambda s: _all(
            s, comparison={"type": "numeric", "thresholdDistance": 1, "resolution": 1}
        ),
        "comparison",
    ),
    "a hash in capitals": (lambda s: _all(s, hash={"type": "BLAKEHASH"}), "hash.type"),
    "a missing value that is shared": (
        lambda s: _all(s, missingValue={"sentinel": "", "replaceWith": "unknown"}), "replaceWith",
    ),
    "a sentinel that drops a name": (
        lambda s: _all(s, missingValue={"sentinel": "smith"}), "sentinel",
    ),
    "both strategies": (
        lambda s: _all(s, strategy={"bitsPerFeature": 100, "bitsPerToken": 1}), "bitsPerToken",
    ),
    "bits below none": (lambda s: _all(s, strategy={"bitsPerFeature": -100}), "bitsPerFeature"),
    "another encoding of text": (
        lambda s: s["features"][0]["format"].update(encoding="ascii"), "format.encoding",
    ),
    "case folded by the schema": (
        lambda s: s["features"][0]["format"].update(case="upper"), "case",
    ),
}  # fmt: skip
