"""
Every threat that we know of: who, how, what defends, what remains.

Tests carry `@pytest.mark.threat("T01")`; `make threats` runs them and writes the table in
docs/threat-model.md (tests/threats.py). A row without a test says why it has none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threat:
    """
    One row. adversary: who; attack: how; defence: what is built against it; remains: what is not
    prevented. not_yet: why no test shows it, "" where tests do.
    """

    id: str
    adversary: str
    attack: str
    defence: str
    remains: str
    not_yet: str = ""


ATTACKS = (
    Threat(
        "T01",
        "broker insider, thief of its memory",
        "graph matching: lays the similarities of the CLKs over those of a list of the population,"
        " without any key; frequencies, patterns of bits, known plaintext",
        "keyed diffusion, as deep as the release gate finds necessary for the study's own fields",
        "plain CLKs (profile `clkhash`) fall entirely; diffusion hides similarity statistically,"
        " so a verdict holds up to the number of people printed with it",
    ),
    Threat(
        "T02",
        "broker insider who knows some of the people",
        "seeded attack: known people are landmarks from which the others are found",
        "the gate attacks with 5 % of the people known and predicts it for the declared size",
        "more people known than 5 %, more records than declared (a broker that keeps replaced"
        " versions); relatives of known people are hidden last",
    ),
    Threat(
        "T03",
        "broker insider",
        "all evidence of one record together: several CLKs average out diffusion's noise, match"
        " keys are added",
        "the gate measures each party's CLKs together, and CLKs and match keys together",
        "evidence outside the study, such as clinical facts in another place",
    ),
    Threat(
        "T04",
        "broker insider",
        "match keys are equal under any key: frequency, pattern mining, structure of equalities",
        "a key that two people of a dataset share is nulled at the site, duplicates are grouped"
        " there, only rounded counts of collisions are told; nulls are filled",
        "equality between datasets is what linkage needs; a few records stay unique by structure",
    ),
    Threat(
        "T05",
        "thief of the broker's disk",
        "reads packages, database, backups",
        "packages are sealed to the broker's key and opened in the worker's memory only; the"
        " server has no private key; the database holds no encoding",
        "who takes the disk and the private key has all encodings; kept until deleted by hand",
    ),
    Threat(
        "T06",
        "a site with another site's encodings; a site and the broker together",
        "dictionary attack: encodes every name with the study key and compares",
        "no encoding stops this. Sites never see others' encodings; custodian and broker are"
        " different organisations; the programs refuse one account for both",
        "a key holder and the broker together name nearly everybody, in minutes to hours",
    ),
    Threat(
        "T07",
        "malicious site",
        "probing: uploads people it guesses, looks who is linked",
        "every record gets an ID in every release, matched or not, in random order; counts of"
        " others are not shown; the number of records is attested and capped",
        "a cohort delivered to the enclave tells who is in it; a record in doubt is asked about"
        " more surely than another (at the end of docs/threat-model.md); there is no alert on odd"
        " rates of matches",
    ),
    Threat(
        "T08",
        "malicious site",
        "saturated CLKs: all ones, all zeros, one CLK a thousand times, to be linked to everybody",
        "a dataset whose CLKs set another share of bits than its manifest says is put into"
        " quarantine; filters nearly empty or full are not compared, candidates are capped, equal"
        " filters sent by both sides are refused; the run of the others is unharmed",
        "a site can spoil its own links; the audit log names its uploads",
    ),
    Threat(
        "T09",
        "author of a study file or schema",
        "downgrade: short keys, few fields, no diffusion, keys of clkhash that clkhash ignores",
        "own strict parsers with a lint at both ends, unknown keys refused, everything signed",
        "a schema that passes is still a plain CLK; the gate decides on the diffusion",
    ),
    Threat(
        "T10",
        "whoever relays keys (the broker)",
        "puts in its own public key; changes recipient or purpose of a sealed object",
        "the signed study pins all keys; sealed objects are signed by their sender for study,"
        " recipient, purpose and place; fingerprints are compared by telephone",
        "who does not compare the custodian's fingerprint trusts whoever sent the file",
    ),
    Threat(
        "T11",
        "broker, through cohort answers",
        "clinical facts: who is in the cohort `lung cancer`",
        "answers, study days and rows are sealed to the enclave, days and rows besides under a key"
        " per person; counts to the researcher's own key; no length tells how many qualify",
        "the broker splits the question, so it reads title, purpose and both halves' criteria; a"
        " broker that serves other pages than these reads counts that are opened in its portal"
        " (docs/adr/0032)",
    ),
    Threat(
        "T12",
        "imaging commons, through downloads",
        "who downloads only the matched images shows who matched",
        "`image_retrieval`: a cover list of all that fits, a mirror, or disclosed in words",
        "with `disclosed` the commons learns it; with `cover` that somebody asked",
    ),
    Threat(
        "T13",
        "readers of two cohorts",
        "join two deliveries on original image UIDs",
        "fresh cohort IDs in every delivery; said plainly in the documents",
        "delivered original UIDs stay comparable; re-mapping them is not built",
    ),
    Threat(
        "T14",
        "broker, through second looks",
        "pools field evidence of doubtful pairs over several questions, or asks about other pairs"
        " than the doubtful ones, and oftener than agreed",
        "a key for each pair; nothing without the signed table; each site counts for itself what it"
        " answers, by record, run and epoch, and refuses more",
        "within the signed limits a dishonest broker learns, field by field, how alike pairs of its"
        " own choice are; the release gate does not measure that, so the limits must be small",
    ),
    Threat(
        "T15",
        "a party, through IDs",
        "uploads two spellings of a person and looks whether another party bridges them to one ID",
        "within one uploader no two groups ever get one ID, bridged or not; contributors, whose"
        " records may be bridged, receive no IDs; the signed study names who does",
        "a commons that plans with two of its contributors sees whether theirs were bridged in"
        " its own release, to which every steward consents first",
    ),
    Threat(
        "T16",
        "whoever writes the workflow database",
        "a pickled step result runs code in the worker",
        "JSON only, references instead of objects",
        "who writes the database can stop or repeat runs",
    ),
    Threat(
        "T17",
        "reader of results",
        "similarity scores rebuild the graph",
        "scores never leave the broker: no address gives any; only rehearsals write them",
        "totals of a run, for admins",
    ),
    Threat(
        "T18",
        "cohort analyst",
        "differencing, planted members plus one target, averaging, two accounts",
        "counts moved by a keyed amount per set of persons, then minimum cell and rounding; one-way"
        " tables with merged categories; a ledger of the study in which near sets read the same,"
        " and by which a person is in ten small numbers of an epoch at most",
        "ten numbers about one person, each among known members, tell in .70 of rounds, each epoch"
        " anew (docs/counts.md, What remains); a study may set noise = 0",
    ),
    Threat(
        "T19",
        "tenant",
        "another study's objects",
        "one object-level check that every address passes; what is not yours does not exist",
        "all studies share one worker and its memory, one after another",
    ),
    Threat(
        "T20",
        "operator",
        "rewrites history",
        "hash chain over every change under heads that the worker signs; answers carry them, sites"
        " keep them and stop at a second history, an auditor compares an export with them",
        "what came after the newest head that a party keeps has no witness but the broker",
    ),
    Threat(
        "T21",
        "broker, through two studies or epochs",
        "finds the same people in two studies' uploads: equal or alike pseudonyms, keys, CLKs, IDs",
        "pseudonyms are derived for one study, encodings for one study and epoch, IDs are random in"
        " each release; similarities, which no key changes, are what diffusion hides",
        "within one study pseudonyms stay over epochs: a broker that keeps the encodings of E"
        " epochs averages their noise",
    ),
    Threat(
        "T22",
        "anybody on the way, a site, the broker",
        "replay and misdirection: an old or another's package, approval, answer, token",
        "each is bound to study, sender, recipient, purpose and place, and signed; tokens live"
        " minutes, assertions are used once; a version number is used once",
        "the broker can withhold, and can run over an older version that its party replaced",
    ),
    Threat(
        "T23",
        "custodian in a hurry, broker admin",
        "runs a study that fails the release gate: no certificate, an altered one, one of another"
        " schema",
        "the certificate is signed with the study and judged by its figures at registration;"
        " an exception is a signed sentence that every party reads",
        "the broker may not encode, so it believes the figures that the custodian signed",
    ),
    Threat(
        "T24",
        "broker insider, thief of the worker's key",
        "marks of groups: laid over a list of people with their groups, over another commons'"
        " marks, averaged over versions and epochs",
        "each is OpenDP's randomised response, drawn once a person and kept; a study asks for"
        " epsilons of 4 together at most, and a site sends none unless its own file says so",
        "variables, parties and studies add up; about how many people of a site are in each group"
        " the admin reads; a lost private folder draws anew; the release gate does not measure"
        " marks",
    ),
)

PROMISES = (
    Threat(
        "P01",
        "power cut, out-of-memory killer",
        "`kill -9` at random points of upload and run",
        "durable runs, uploads acknowledged after they are kept: none lost, no ID twice, the same"
        " result",
        "a package that was being sent is sent again",
    ),
    Threat(
        "P02",
        "full disk, restarted database",
        "a half-visible result",
        "every result becomes visible in one transaction, or the run says what to do",
        "somebody has to make room",
    ),
    Threat(
        "P03",
        "impatient client",
        "the same submission twice or a hundred times at once",
        "one effect; the same idempotency key with another body is refused",
        "nothing known",
    ),
    Threat(
        "P04",
        "large site",
        "a 5 GB upload, dropped connections",
        "parts of 8 MiB, streamed; what is there is not sent again",
        "a worker opens a whole dataset version in memory; the test sends .4 GB, the 5 GB were"
        " measured once by hand (docs/performance.md)",
    ),
    Threat(
        "P05",
        "anybody",
        "malformed requests at every address",
        "no 5xx, no success without a token",
        "generated requests (Schemathesis) are thinned out in the tests; `make fuzz` sends more",
    ),
    Threat(
        "P06",
        "reader of logs",
        "identifiers in logs, database, tracebacks, temporary files, on the wire",
        "canaries planted in every field are found nowhere",
        "swap and hibernation of the site's machine",
    ),
    Threat(
        "P07",
        "malicious site",
        "malformed encodings: wrong length, odd bits, empty",
        "refused before they reach the matcher",
        "nothing known",
    ),
    Threat(
        "P08",
        "malicious site",
        "bombs: compressed, nested, endless",
        "refused at the byte cap",
        "a very slow sender holds one connection",
    ),
)

THREATS = {one.id: one for one in (*ATTACKS, *PROMISES)}

HEADLINES = (
    (
        "plain CLKs, 2,000 people, re-identified",
        "The attack on encodings as most tools make them: people named, without any key",
    ),
    (
        "hardened, knowing nobody",
        "The same attack on the encodings of this project's example study",
    ),
    (
        "hardened, 5 % known, worst CLK",
        "The same by an attacker who knows 5 % of the people already: how many of the others",
    ),
    (
        "all CLKs of a party's records together, 5 % known",
        "The same with all encodings of a record taken together",
    ),
    (
        "match keys: unique by structure at 10,000, worst two datasets",
        "Records that stand out by which of their exact-match codes occur in the other dataset",
    ),
    (
        "linked by bits alone over two studies",
        "One person in two studies, linked by the worst of her encodings (a blind guess: 0.05%)",
    ),
    (
        "objects passed for another, refused",
        "Sealed objects that a dishonest broker passes for another, refused by the site",
    ),
    (
        "weakened study files",
        "Ways to weaken a study file that were tried; all were refused",
    ),
    (
        "failed or altered certificates, refused by broker",
        "Failed, altered or missing certificates given to a broker; all were refused",
    ),
    (
        "encodings, IDs and answers looked for on the broker's disk",
        "Encodings, IDs and answers looked for on the broker's disk after a run; none was found",
    ),
)
"""Figures of the tests, by name, as docs/privacy-officer.md tells them."""
