"""
What Prometheus itself makes of the dashboard's queries and of the alerts, over a broker that it
scrapes. Skipped where it is not installed (Debian: `apt-get install prometheus`).
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.broker_world import wait_for
from tests.monitored import ALERTS, ALERTS_FILE, DASHBOARD, free_port, monitored

PROGRAM, TOOL = shutil.which("prometheus"), shutil.which("promtool")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not (PROGRAM and TOOL), reason="Prometheus is not installed"),
]
PANELS = [
    pytest.param(target["expr"], id=f"{panel['title']}-{number}")
    for panel in DASHBOARD["panels"]
    for number, target in enumerate(panel.get("targets", ()))
]
SILENT = ("linkage_runs_in_stage", "linkage_run_stage_age_seconds", "linkage_failed_steps_total")
"""Only while something is under way, or once something has failed."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that has scraped a broker before and after a run."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    with monitored(tmp_path_factory.mktemp("monitored")) as made:
        config = folder / "prometheus.yml"
        config.write_text(configuration(made.ports))
        process = subprocess.Popen(
            [
                str(PROGRAM),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: scrapes(url) >= 2, 60)
            # What is shown by its rise has to rise while somebody looks.
            done = made.world.run(precision=0.9)  # the same again would be the same run
            assert done["state"] == "done", done["failure"]
            before = scrapes(url)
            wait_for(lambda: scrapes(url) >= before + 2, 60)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def configuration(ports: dict[str, int]) -> str:
    """As docs/operations.md has it, but for how often."""
    return (
        "global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}\n"
        f"rule_files: [{ALERTS_FILE}]\n"
        "scrape_configs:\n"
        f"  - job_name: linkage-broker\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{ports['server']}']}}]\n"
        f"  - job_name: linkage-worker\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{ports['worker']}']}}]\n"
    )


def asked(url: str, query: str) -> list[dict[str, Any]]:
    """Return what a query gives, one entry a series."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def scrapes(url: str) -> int:
    """How often both processes were scraped, at the least; 0 while nobody answers."""
    try:
        found = asked(url, 'sum_over_time(up{job=~"linkage-.*"}[1h])')
    except (httpx.HTTPError, ValueError):
        return 0
    return min((int(one["value"][1]) for one in found), default=0) if len(found) == 2 else 0


@pytest.mark.parametrize("query", PANELS)
def test_a_query_of_the_dashboard_gives_numbers(prometheus: str, query: str) -> None:
    found = asked(prometheus, query)
    if not any(name in query for name in SILENT):
        # Of an address or a step that nobody asked for of late there is no time: NaN.
        assert any(not math.isnan(float(one["value"][1])) for one in found), query


def test_the_alerts_are_sound_and_silent(prometheus: str, tmp_path: Path) -> None:
    checked = subprocess.run(
        [str(TOOL), "check", "rules", str(ALERTS_FILE)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    names = [rule["alert"] for rule in ALERTS["groups"][0]["rules"]]
    wait_for(lambda: all(one["health"] != "unknown" for one in rules(prometheus)), 30)
    assert [one["name"] for one in rules(prometheus)] == names
    assert {one["health"] for one in rules(prometheus)} == {"ok"}
    firing = {one["name"]: one["state"] for one in rules(prometheus) if one["state"] != "inactive"}
    # A disk may really be small.
    assert firing.keys() <= {"BrokerDiskLow"}, firing


def rules(url: str) -> list[dict[str, Any]]:
    """What Prometheus says of each alert."""
    groups = httpx.get(f"{url}/api/v1/rules").json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]
