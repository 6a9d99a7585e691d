"""
What every worker needs, loaded once: the fork server imports this module, then forks.

Importing takes a second, and so does making numba's compiled loops ready; without this, every
worker would do both. Ctrl-C at a terminal reaches every process of a command; the one that was
asked ends the others, so here it is passed over, in the middle of an import too.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)

import numpy as np  # noqa: E402

import sites.encoding_worker as encoding_worker  # noqa: E402
from linkage.encoding.diffusion import diffuse, diffusion_taps  # noqa: E402
from linkage.encoding.duplicates import settle, unite  # noqa: E402
from linkage.encoding.tags import Tagger  # noqa: E402

Tagger(bytes(32)).tags(np.zeros(1, np.uint8), np.array([0, 1], np.int64))
diffuse(np.zeros((1, 256), np.uint8), diffusion_taps(bytes(32), length=2048, depth=10))
settle(np.zeros(1, np.uint32))
unite(np.zeros(1, np.uint32), np.ones(2, np.uint64), np.zeros(2, np.int64))
READY = encoding_worker.Prepared
