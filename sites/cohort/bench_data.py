"""
Made data for `linkage-site bench-cohort`: an OMOP source of any size, and a series index.

All of it is drawn by hashing row numbers, so the same sizes give the same data; the SQL holds names
and numbers of this module only. What the shares below imitate: rows a domain as in the published
OMOP samples, rows of a person in no order, 2,000 conditions of which a few make up most records,
3.5 of 100 persons with a lung cancer.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

LUNG_CANCER, CREATININE = 443388, 3016723
"""
3016723: Creatinine [Mass/volume] in Serum or Plasma, LOINC 2160-0; checked. 443388: Malignant tumor
of lung, SNOMED CT 363358000, which newer releases call Malignant neoplasm of lung; two public OHDSI
studies take what is below it as their lung cancers, its own row was not seen. The data here are
made, so nothing depends on it; look it up in your vocabulary before you ask.
"""

SHARES: Mapping[str, float] = {
    "condition_occurrence": 0.18,
    "drug_exposure": 0.18,
    "procedure_occurrence": 0.10,
    "measurement": 0.40,
    "observation": 0.06,
    "visit_occurrence": 0.08,
}
"""Which share of the clinical rows each table holds."""

_FIRST_DAY = "DATE '2010-01-01'"
_DAYS = 4000


@dataclass(frozen=True, slots=True)
class Sizes:
    """persons of the enclave; clinical_rows of all its event tables together."""

    persons: int
    clinical_rows: int

    def rows_of(self, table: str) -> int:
        """Return how many rows one event table gets."""
        return max(1, round(self.clinical_rows * SHARES[table]))


def write_omop(folder: Path, sizes: Sizes) -> None:
    """Write the OMOP tables as Parquet into the new folder `folder`."""
    folder.mkdir(parents=True)
    with duckdb.connect() as con:
        con.execute("SET enable_progress_bar = false")
        con.execute("SET preserve_insertion_order = false")
        con.execute("SET memory_limit = '3GB'")
        for name, query in _queries(sizes).items():
            path = str(folder / f"{name}.parquet").replace("'", "''")
            con.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def _queries(sizes: Sizes) -> dict[str, str]:
    """Return the query of each table."""
    made = {
        "person": f"""SELECT i + 1 AS person_id,
            CASE {_draw("sex")} % 2 WHEN 0 THEN 8507 ELSE 8532 END AS gender_concept_id,
            1930 + ({_draw("born")} % 80)::BIGINT AS year_of_birth,
            1 + ({_draw("month")} % 12)::BIGINT AS month_of_birth,
            1 + ({_draw("day")} % 28)::BIGINT AS day_of_birth,
            [8527, 8516, 8515, 0][1 + ({_draw("race")} % 4)::BIGINT] AS race_concept_id,
            [38003564, 38003563, 0][1 + ({_draw("eth")} % 3)::BIGINT] AS ethnicity_concept_id,
            'P' || i AS person_source_value FROM range({sizes.persons}) AS t(i)""",  # noqa: S608
        "observation_period": f"""SELECT i + 1 AS observation_period_id, i + 1 AS person_id,
            {_FIRST_DAY} AS observation_period_start_date,
            {_FIRST_DAY} + {_DAYS} AS observation_period_end_date,
            32817 AS period_type_concept_id FROM range({sizes.persons}) AS t(i)""",  # noqa: S608
        "death": f"""SELECT i + 1 AS person_id, {_day("death")} AS death_date,
            32817 AS death_type_concept_id FROM range({sizes.persons}) AS t(i)
            WHERE {_draw("dead")} % 100 < 3""",  # noqa: S608
        "concept_ancestor": f"""SELECT ancestor_concept_id, descendant_concept_id,
            0 AS min_levels_of_separation, 0 AS max_levels_of_separation FROM (
            SELECT i AS ancestor_concept_id, i AS descendant_concept_id FROM (
                SELECT 1000000 + j AS i FROM range(2000) AS t(j)
                UNION ALL SELECT unnest([{LUNG_CANCER}, {CREATININE}]))
            UNION ALL SELECT {LUNG_CANCER}, 1000000 + j FROM range(1900, 1960) AS t(j)
            UNION ALL SELECT 5000000 + j % 999, 6000000 + j FROM range(200000) AS t(j))""",  # noqa: S608
    }
    columns = {
        "condition_occurrence": f"{_concept('condition')}, {_start('condition', 'condition')}",
        "drug_exposure": f"{_concept('drug')}, {_start('drug', 'drug_exposure')}",
        "procedure_occurrence": f"{_concept('procedure')}, {_day('p')} AS procedure_date",
        "measurement": f"""CASE WHEN {_draw("lab")} % 20 = 0 THEN {CREATININE}
            ELSE 2000000 + ({_draw("mc")} % 300)::BIGINT END AS measurement_concept_id,
            {_day("m")} AS measurement_date, ({_draw("mv")} % 3000) / 100.0 AS value_as_number,
            8840 AS unit_concept_id""",
        "observation": f"{_concept('observation')}, {_day('o')} AS observation_date",
        "visit_occurrence": f"""[9201, 9202, 9203][1 + ({_draw("vc")} % 3)::BIGINT]
            AS visit_concept_id, {_start("v", "visit")}""",
    }
    types = {"drug_exposure": "drug"}
    for table, own in columns.items():
        noun = types.get(table, table.removesuffix("_occurrence"))
        visit = "" if table == "visit_occurrence" else ", NULL::BIGINT AS visit_occurrence_id"
        made[table] = f"""SELECT i + 1 AS {table}_id,
            1 + ({_draw(table)} % {sizes.persons})::BIGINT AS person_id, {own},
            32817 AS {noun}_type_concept_id{visit}
            FROM range({sizes.rows_of(table)}) AS t(i)"""  # noqa: S608
    return made


def _draw(salt: str) -> str:
    """
    Return an unsigned number that looks random, another one for each salt.

    Not hash(i, salt): DuckDB combines the two hashes such that the lowest bits of all salts agree.
    """
    return f"hash(i + {zlib.crc32(salt.encode()) << 30})"


def _day(salt: str) -> str:
    return f"{_FIRST_DAY} + ({_draw(salt)} % {_DAYS})::INTEGER"


def _start(salt: str, noun: str) -> str:
    return f"{_day(salt)} AS {noun}_start_date, {_day(salt)} AS {noun}_end_date"


def _concept(domain: str) -> str:
    """Some of 2,000 concepts, the first ones far more often; the lung cancers are the 1,900s."""
    place = f"floor(2000 * pow(({_draw(domain)} % 100003) / 100003.0, 3))::BIGINT"
    common = f"1000000 + {place}"
    if domain == "condition":
        # 1,900 to 1,960 of 2,000 by the cube: 1.1 % of the records; of these every third stays.
        return (
            f"CASE WHEN {place} BETWEEN 1900 AND 1959 AND {_draw('thin')} % 3 > 0"
            f" THEN 1000000 ELSE {common} END AS condition_concept_id"
        )
    return f"{common} AS {domain}_concept_id"


def write_series(path: Path, series: int) -> None:
    """Write a made series index in the columns of the Imaging Data Commons, 12 series a subject."""
    subjects = max(1, series // 12)
    with duckdb.connect() as con:
        target = str(path).replace("'", "''")
        con.execute(
            f"""COPY (SELECT 'made' AS collection_id,
                'SUBJECT-' || lpad((i % {subjects})::VARCHAR, 7, '0') AS PatientID,
                '1.2.840.1.' || (i % {subjects}) || '.' || (i // {subjects} // 4)
                    AS StudyInstanceUID,
                '1.2.840.2.' || i AS SeriesInstanceUID,
                ['CT', 'CT', 'MR', 'SR', 'SEG'][1 + ({_draw("mod")} % 5)::BIGINT] AS Modality,
                ['CHEST', 'ABDOMEN', NULL][1 + ({_draw("part")} % 3)::BIGINT] AS BodyPartExamined,
                'MAKER ' || {_draw("maker")} % 5 AS Manufacturer,
                ({_day("study")})::VARCHAR AS StudyDate,
                100 AS instanceCount, 50.0 AS series_size_MB,
                's3://made/' || i || '/*' AS series_aws_url
                FROM range({series}) AS t(i)) TO '{target}' (FORMAT parquet)"""  # noqa: S608
        )
