"""
Where a site keeps its series table and its OMOP tables: parts of the site file.

Light on purpose: a site that only tokenizes reads these models without DuckDB or Ibis.
"""

from __future__ import annotations

from sites.cohort.config_imaging import ImagingConfig
from sites.cohort.config_omop import OmopConfig

__all__ = ["ImagingConfig", "OmopConfig"]
