"""
What every worker needs, loaded once: the fork server imports this module, then forks.

Importing takes a second, and so does making numba's compiled loops ready; without this, every
worker would do both.
"""

from __future__ import annotations

import numpy as np

import sites.encoding_worker as encoding_worker
from linkage.encoding.diffusion import diffuse, diffusion_taps
from linkage.encoding.tags import Tagger

Tagger(bytes(32)).tags(np.zeros(1, np.uint8), np.array([0, 1], np.int64))
diffuse(np.zeros((1, 256), np.uint8), diffusion_taps(bytes(32), length=2048, depth=10))
READY = encoding_worker.Prepared
