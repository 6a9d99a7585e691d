"""What a monitor gets of a real server and worker: metrics without ids, liveness, readiness."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.broker_world import World, make_world, packages, problem, wait_for
from tests.monitored import ALERTS, DASHBOARD, monitored

PORTS: dict[str, int] = {"server": 0, "worker": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with monitored(tmp_path_factory.mktemp("monitored")) as made:
        PORTS.update(made.ports)
        yield made.world


def scraped(of: str) -> dict[str, float]:
    """What is scraped: values by sample, its labels in it."""
    told = httpx.get(f"http://127.0.0.1:{PORTS[of]}/metrics").raise_for_status().text
    return {
        f"{one.name}{sorted(one.labels.items())}": one.value
        for family in text_string_to_metric_families(told)
        for one in family.samples
    }


def value(found: dict[str, float], start: str) -> float:
    return sum(number for name, number in found.items() if name.startswith(start))


def test_the_server_counts_what_it_does(world: World) -> None:
    found = scraped("server")
    part = "/v1/studies/{study_id}/datasets/{uploader}/{dataset}/parts/{part}"
    puts = f"linkage_requests_total[('method', 'PUT'), ('route', '{part}'), ('status', '204')]"
    assert found[puts] == 6
    assert value(found, f"linkage_request_seconds_count[('route', '{part}')]") == 6
    sizes = sum(len(data) for one in packages(world).values() for data in one.parts)
    assert value(found, "linkage_upload_bytes_total") == pytest.approx(sizes, rel=0.05)
    assert value(found, "linkage_failed_sign_ins_total") >= 1
    assert value(found, "linkage_database_up") == 1
    assert value(found, "linkage_workers") == 1
    assert 0 <= value(found, "linkage_worker_heartbeat_age_seconds") < 3_600
    assert 0 <= value(found, "linkage_audit_head_age_seconds") < 3_600
    assert value(found, "linkage_disk_free_bytes") > 0


def test_a_wrong_password_counts_wherever_it_is_typed(world: World) -> None:
    """At the API, on the portal's pages, and on the way back from an identity provider."""
    failed = "linkage_failed_sign_ins_total"
    own = {"Origin": world.url}
    person = {"name": "nobody", "password": "x" * 15, "code": "123456"}
    code = {"invitation_secret": "x" * 32}
    attempts = (
        lambda: httpx.post(f"{world.url}/v1/session", json=person, headers=own),
        lambda: httpx.post(f"{world.url}/sign-in", data=person, headers=own),
        lambda: httpx.post(f"{world.url}/invitation", data={"invitation": "x" * 32}, headers=own),
        lambda: httpx.post(f"{world.url}/v1/invitations/open", json=code),
    )
    for attempt in attempts:
        before = value(scraped("server"), failed)
        assert attempt().status_code in (401, 422)
        assert value(scraped("server"), failed) == before + 1


def test_the_worker_counts_its_steps(world: World) -> None:
    found = scraped("worker")
    assert value(found, "linkage_step_seconds_count[('step', 'solve')]") == 1
    assert value(found, "linkage_step_seconds_count[('step', 'open')]") == 3
    assert value(found, "process_resident_memory_bytes") > 1 << 20


@pytest.mark.parametrize("of", sorted(PORTS))
def test_nothing_names_a_study_a_party_or_an_id(world: World, of: str) -> None:
    names = [world.study_id, "tester", *(p.id for p in world.signed.study.party)]
    for one in scraped(of):
        labels = one.partition("[")[2].replace("'enclave'", "enclave")
        assert not any(f"'{name}'" in labels or f" {name}" in labels for name in names), one
        assert not re.search(r"run-[0-9a-f]|[0-9a-f]{16}", labels), one
        assert not re.search(r"match|link_count|persons|overlap", one.partition("[")[0]), one


def test_metrics_are_on_no_address_that_callers_reach(world: World) -> None:
    assert httpx.get(f"{world.url}/metrics").status_code == 404


def test_every_alert_names_metrics_that_exist(world: World) -> None:
    there = {name.partition("[")[0] for of in PORTS for name in scraped(of)}
    # Only while something is under way, or once something has failed.
    there |= {"linkage_run_stage_age_seconds", "linkage_failed_steps_total"}
    [group] = ALERTS["groups"]
    for rule in group["rules"]:
        named = set(re.findall(r"\b(?:linkage|process)_\w+", rule["expr"]))
        assert named <= there, rule["alert"]
        # A comma ends a plain text between braces: the rest was an annotation of its own, and
        # Prometheus refused the whole file.
        assert rule["annotations"].keys() == {"summary"}
        assert rule["labels"]["severity"] in ("page", "ticket")
    assert len(group["rules"]) >= 10


def test_every_query_of_the_dashboard_names_what_exists(world: World) -> None:
    """Metrics and their labels; and no metric of ours is left out of it."""
    labels: dict[str, set[str]] = {
        # Only while something is under way, or once something has failed.
        "linkage_run_stage_age_seconds": {"stage"},
        "linkage_runs_in_stage": {"stage"},
        "linkage_failed_steps_total": {"step"},
    }
    for of in PORTS:
        for one in scraped(of):
            name, _, rest = one.partition("[")
            labels.setdefault(name, set()).update(re.findall(r"\('(\w+)', '", rest))
    panels = [one for one in DASHBOARD["panels"] if one["type"] != "row"]
    assert len(panels) >= 15
    shown = set()
    for panel in panels:
        assert panel["description"]
        for target in panel["targets"]:
            named = set(re.findall(r"\b(?:linkage|process)_\w+", target["expr"]))
            assert named
            assert named <= labels.keys(), (panel["title"], named - labels.keys())
            shown |= named
            # What Prometheus itself adds to each sample is there always.
            known = set.union(*(labels[one] for one in named)) | {"job", "instance", "le"}
            grouped = re.findall(r"by \(([\w, ]+)\)", target["expr"])
            used = {label.strip() for group in grouped for label in group.split(",")}
            used |= set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            used |= set(re.findall(r"[{,](\w+)=~?\"", target["expr"]))
            assert used <= known, (panel["title"], used - known)
    ours = {
        re.sub("_(bucket|sum|count)$", "", one)
        for one in labels
        if one.startswith("linkage_") and not one.endswith("_created")
    }
    assert ours == {re.sub("_(bucket|sum|count)$", "", one) for one in shown if "linkage" in one}
    alerts = {rule["alert"] for rule in ALERTS["groups"][0]["rules"]}
    told = " ".join(panel["description"] for panel in panels)
    assert set(re.findall(r"Broker[A-Z]\w+", told)) <= alerts


def unit_of(query: str) -> str:
    """What a query's numbers are, by the ending of its metric, as Prometheus names them."""
    if "linkage_requests_total" in query and "rate(" in query:
        return "reqps"
    per_second = "rate(" in query and "histogram_quantile" not in query and "/" not in query
    if re.search(r"_seconds(_bucket|_sum)?\b", query):
        return "s"
    if re.search(r"_bytes(_total)?\b", query):
        return "Bps" if per_second else "bytes"
    return "short"


def test_every_panel_has_the_unit_of_its_numbers() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            assert panel["fieldConfig"]["defaults"]["unit"] == unit_of(query), panel["title"]
            # A counter only ever grows: its rise is shown, never itself.
            for counter in re.findall(r"\b\w+_total\b(?!\w)", query):
                risen = re.search(rf"(rate|increase)\({counter}(\{{[^}}]*\}})?\[\w+\]\)", query)
                assert risen, panel["title"]


def test_panels_have_their_own_place() -> None:
    taken: set[tuple[int, int]] = set()
    assert len({one["id"] for one in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_live_and_ready(world: World) -> None:
    assert httpx.get(f"{world.url}/health/live").json()["status"] == "ok"
    wait_for(lambda: httpx.get(f"{world.url}/health/ready").json()["worker"] is True, 30)
    assert httpx.get(f"{world.url}/health/ready").json()["status"] == "ready"


def test_not_ready_says_what_is_missing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_world(tmp_path)
    monkeypatch.setenv("LINKAGE_BROKER_LIMITS_RESERVE_BYTES", str(1 << 60))
    try:
        other.serve()
        status, code, detail = problem(httpx.get(f"{other.url}/health/ready"))
        assert (status, code) == (503, "unreachable")
        assert "the disk is nearly full" in detail
        assert httpx.get(f"{other.url}/health/live").status_code == 200
    finally:
        other.stop()


def test_every_answer_has_an_id_that_the_log_knows(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path)
    try:
        other.serve()
        asked = httpx.get(f"{other.url}/v1/studies/nothing", headers={"Linkage-Request-Id": "me"})
        request = asked.headers["linkage-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", request)
        assert asked.json()["request"] == request
        log = other.home.path / "serve.log"
        wait_for(lambda: request in log.read_text(), 30)
        lines = map(json.loads, log.read_text().splitlines())
        [line] = [one for one in lines if one.get("request") == request]
        assert (line["event"], line["status"]) == ("request", 401)
    finally:
        other.stop()


def test_the_level_of_the_log_is_a_setting(world: World) -> None:
    assert '"event": "request"' not in (world.home.path / "serve.log").read_text()
