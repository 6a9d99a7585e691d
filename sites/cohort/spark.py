"""
OMOP tables in Spark: a folder of Parquet that its executors can read, or tables of its catalog.

pyspark is no dependency: the enclave that has a Spark installs the version of that Spark.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from linkage.errors import SourceRefused
from sites.cohort import cdm
from sites.cohort.config import OmopConfig
from sites.cohort.engines import Engine, files_in, tables_of_schemas
from sites.cohort.tables import columns_by_meaning, no_values_in_errors

_SETTINGS = {
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.ui.enabled": "false",  # its pages show queries to whoever can reach the port
    "spark.ui.showConsoleProgress": "false",
}
_LOCAL = {"spark.sql.shuffle.partitions": "8"}
"""One machine gains nothing from the 200 of a cluster."""


class SparkEngine(Engine):
    """One Spark session of our own; closing it ends it."""

    reads_text = False

    def __init__(self, config: OmopConfig) -> None:
        try:
            builder = importlib.import_module("pyspark.sql").SparkSession.builder
        except ImportError:
            raise SourceRefused(
                file="[omop] spark",
                rule="needs pyspark",
                hint="install the version of your Spark: pip install pyspark==4.0.*",
            ) from None
        address = config.spark or ""
        builder = builder.appName("commons-linkage")
        if address.startswith("sc://"):
            builder = builder.remote(address)
        else:
            builder = builder.master(address)
            local = _LOCAL if address.startswith("local") else {}
            for name, value in {**_SETTINGS, **local}.items():
                builder = builder.config(name, value)
        with no_values_in_errors("[omop] spark"):
            self._session = builder.getOrCreate()
            self.con = ibis.pyspark.connect(self._session)
        self._numbers = itertools.count(1)
        try:
            with no_values_in_errors(config.place):
                self.tables = self._folder(config.path) if config.path else self._catalog(config)
        except BaseException:
            self.close()
            raise

    def _folder(self, folder: Path) -> dict[str, Any]:
        if not folder.is_dir():
            raise SourceRefused(
                file=folder.name, rule="is no folder", hint="Spark reads a folder of Parquet files"
            )
        found = {}
        for name, path in files_in(folder).items():
            if name not in cdm.BY_NAME:
                continue
            if not path.is_dir() and path.suffix.lower() != ".parquet":
                raise SourceRefused(
                    file=path.name,
                    rule="is no Parquet, and Spark is to read it",
                    hint="convert it, or leave spark out of [omop]",
                )
            found[name] = self.con.read_parquet(path, table_name=f"linkage_cdm_{name}")
            columns_by_meaning(found[name].columns, file=path.name)
        return found

    def _catalog(self, config: OmopConfig) -> dict[str, Any]:
        return tables_of_schemas(
            config, "default", lambda schema: self.con.list_tables(database=schema), self.con
        )

    def rows(self, columns: Mapping[str, pa.Array]) -> Any:
        table = pa.table(dict(columns))
        # By name and not as ibis.memtable: that goes through pandas, where missing whole numbers
        # become fractions.
        name = f"linkage_rows_{next(self._numbers)}"
        frame = self._session.createDataFrame(table)
        frame.createOrReplaceTempView(name)
        return self.con.table(name)

    def close(self) -> None:
        self._session.stop()
