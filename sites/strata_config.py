"""The table [strata] of a site file: whether its records bear marks, and what its groups are."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from linkage.strata import MOST_TOGETHER, Marked, Stratum, as_group
from linkage.strict_toml import Fault, Strict
from linkage.study_parts import Identifier


class StrataConfig(Strict):
    """
    send: this site's yes to the marks that the study's [[strata]] allow; without it none is made.

    lacks: variables that this source has not; all of its records are then in the group of the
    rest. names: by variable, how the source writes a group, where otherwise than the study. Which
    column holds a variable says [source.subgroups]. most_epsilon: what the marks of one record may
    add up to over all epochs, also where the study changes its groups.
    """

    send: bool = False
    lacks: tuple[Identifier, ...] = ()
    names: dict[Identifier, dict[str, str]] = Field(default_factory=dict)
    most_epsilon: float = Field(default=MOST_TOGETHER, gt=0, le=20, allow_inf_nan=False)

    @field_validator("names")
    @classmethod
    def _as_groups(cls, value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        made = {}
        for variable, names in value.items():
            made[variable] = {as_group(a): as_group(b) for a, b in names.items()}
            if len(made[variable]) < len(names):
                raise Fault(
                    "names one value twice; case and blanks do not count",
                    "name it once",
                    *("strata", "names", variable),
                )
        return made


def marks_told(study: Sequence[Stratum], sent: Sequence[Stratum | Marked]) -> dict[str, object]:
    """
    Return the row that tells an operator which marks of groups leave the site, or that none do;
    nothing of a study that asks for none. sent: by what records bear marks.
    """
    if not study:
        return {}
    if sent:
        together = sum(one.epsilon for one in sent)
        said = f"{', '.join(one.id for one in sent)}; epsilon {together:g} together"
    else:
        asked = ", ".join(one.id for one in study)
        said = f"none: [strata] send is not true here; the study would take {asked}"
    return {"marks of groups": said}
