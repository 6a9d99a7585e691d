"""
What every worker needs, loaded once: the fork server imports this module, then forks.

Importing takes a second, and so does making numba's compiled loops ready; without this, every
worker would do both. So a record of nobody goes the whole way here. Two libraries are kept out:
numba would load scipy for matrix products, and pyarrow would load pandas to recognise its frames;
no worker has either, and they are a third of the start. Ctrl-C at a terminal reaches
every process of a command; the one that was asked ends the others, so here it is passed over, in
the middle of an import too.
"""

from __future__ import annotations

import gc
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_IGN)
gc.disable()  # what is imported stays; a worker sets its own pace


class _KeptOut:
    """While this is asked for modules, no pandas and no scipy is installed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name in ("pandas", "scipy", "cffi", "yaml"):
            raise ModuleNotFoundError(f"{name} is not loaded for workers", name=name)


sys.meta_path.insert(0, _KeptOut)

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

import sites.encoding_worker as encoding_worker  # noqa: E402
from linkage.encoding.duplicates import digests, equal_ones, grouping_rules, settle, unite  # noqa: E402
from linkage.encoding.encoder import BatchEncoder  # noqa: E402
from linkage.encoding.fields import Normaliser, Reading, apply  # noqa: E402
from linkage.encoding.keys import StudyKey  # noqa: E402
from linkage.encoding.spelt import Spelt  # noqa: E402
from linkage.study import parse_study  # noqa: E402
from sites.spool_sums import sum_of  # noqa: E402

_FIELDS = {
    "first_name": "ada",
    "last_name": "byron",
    "date_of_birth": "1915-12-10",
    "sex": "f",
    "street": "12 st james square",
}
_PARTY = f"""
[[party]]
id = "{{}}"
fields = {list(_FIELDS)}
"""
_STUDY = parse_study(
    f"""
[study]
id = "warm"
title = "Nobody"
purpose = "To load what encoding needs"
{_PARTY.format("one")}
{_PARTY.format("two")}
[[clk]]
id = "all"
fields = [{", ".join(f'{{field = "{name}"}}' for name in _FIELDS)}]
[[match_key]]
id = "names"
fields = ["first_name", "last_name"]
"""
)


def _go_the_whole_way() -> None:
    columns = {
        field: Normaliser(field, Reading()).column(pa.array([value, value], pa.string())).column
        for field, value in _FIELDS.items()
    }
    BatchEncoder(_STUDY, _STUDY.party[0], StudyKey.generate()).encode(columns, normalised=True)
    for ref in ("last_name:sound", "street:house_number"):
        apply(ref, columns[ref.partition(":")[0]])
    Spelt.of_arrow(pa.array(["1", "2"]))
    found, _ = digests(columns, grouping_rules(tuple(_FIELDS)), bytes(16))
    equal_ones(np.zeros(2, np.uint64))
    groups = np.arange(2, dtype=np.uint32)
    sum_of(bytes(33))
    unite(groups, found[:, 0], np.arange(2))
    settle(groups)


try:
    _go_the_whole_way()
finally:
    sys.meta_path.remove(_KeptOut)
    gc.enable()
READY = encoding_worker.Prepared
