"""`maillages-central grafana`: what it writes, brings into a Grafana and asks there. The Grafana is a double that answers as a real one
did (tests/fakes/grafana.py); the queries themselves are asked of a real InfluxDB in the tests beside this one."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from central.config import load
from central.errors import NeedsPerson, Unavailable
from central.grafana import Grafana, Pushed, write
from grafana.alerts import CENTRAL, GROUP, RULES, Span
from grafana.source import source
from tests.fakes.grafana import GrafanaServer

ROOT = Path(__file__).parents[2] / "grafana"
RECORDED = json.loads((ROOT.parent / "tests/fakes/grafana_answers.json").read_text(encoding="utf-8"))
HOOK = "w" * 43


@pytest.fixture
def server() -> Iterator[GrafanaServer]:
    with GrafanaServer() as there:
        yield there


@pytest.fixture
def config(tmp_path: Path, server: GrafanaServer) -> Path:
    file = tmp_path / "central.toml"
    file.write_text(
        f"""
data_dir = "{tmp_path}"
[mqtt]
host = "127.0.0.1"
[web]
public_url = "https://crise.huy.test/page"
[store]
kind = "influxdb"
url = "http://influx.huy.test:8086"
[grafana]
url = "{server.url}"
token = "right"
technicians = ["a@huy.test", "b@huy.test"]
webhook_token = "{HOOK}"
database_password = "p$w"
"""
    )
    return file


def push(config: Path, **options: Any) -> dict[str, Pushed]:
    return {p.what: p for p in Grafana(load(config)).push(**options)}


# ---------------------------------------------------------------------- the double


def shape(found: Any, known: Any) -> Any:
    """`known` with the members of `found` alone, for which the double has a value; moments and revisions are no matter."""
    if isinstance(found, dict) and isinstance(known, dict):
        return {k: shape(v, known[k]) for k, v in found.items() if k in known and k != "version"}
    if isinstance(found, list) and isinstance(known, list):
        return [shape(f, k) for f, k in zip(found, known, strict=True)]
    return known


def test_the_double_answers_as_the_real_one_did() -> None:
    """But for members of the real answers that nobody reads, which it leaves out."""
    there = GrafanaServer()
    compared = 0
    for each in RECORDED:
        method, path, body = each["request"]
        if path == "/ds/query":
            continue  # what the database makes of a query is the database's
        status, answer = there.ask(method, path, json.loads(json.dumps(body)), each["token"])
        assert status == each["status"], (method, path, answer)
        if isinstance(answer, dict | list):
            answer = json.loads(json.dumps(answer))
            plain = shape(answer, answer)
            assert plain == shape(answer, each["answer"]) or method == "PUT", (method, path)
            compared += 1
    assert compared > 40


# ---------------------------------------------------------------------- push


def test_a_first_push_makes_everything_and_a_second_nothing(server: GrafanaServer, config: Path) -> None:
    assert {p.state for p in push(config).values()} == {"made", "changed", "the same"}
    assert set(server.rules) == {rule.uid for rule in RULES}
    assert len(server.boards) == 6
    (data,) = server.sources.values()
    assert (data["url"], data["database"], data["user"]) == ("http://influx.huy.test:8086", "maillages", "grafana")
    hook = server.points[CENTRAL]["settings"]
    assert (hook["url"], hook["password"]) == ("https://crise.huy.test/page/api/grafana", HOOK)
    assert server.points["maillages-techniciens"]["settings"]["addresses"] == "a@huy.test;b@huy.test"
    done = len(server.written)
    assert [p for p in push(config).values() if p.state != "the same"] == []
    assert len(server.written) == done, "nothing was written"


def test_what_somebody_changed_there_is_said_and_put_right(server: GrafanaServer, config: Path) -> None:
    push(config)
    uid = "maillages-montee-rapide"
    server.rules[uid]["for"] = "1h"
    server.rules[uid]["labels"]["seuil"] = "3"
    server.boards["maillages-air"]["dashboard"]["panels"][0]["title"] = "Autre"
    server.points["maillages-techniciens"]["settings"]["addresses"] = "c@huy.test"
    server.interval = 300
    told = {what: p.differs for what, p in push(config, dry_run=True).items() if p.state != "the same"}
    assert told["rule 'Montée rapide'"] == ["for: 3600 -> 600", "labels: seuil: 3 -> 1"] or told["rule 'Montée rapide'"] == [
        "for: 3600 -> 600", "labels, seuil: 3 -> 1"
    ]  # fmt: skip
    assert any("Autre" in line for line in told["board air"])
    assert any("c@huy.test" in line for line in told["contact point 'maillages-techniciens'"])
    assert told[f"group {GROUP}"] == ["interval: 300 -> 60"]
    assert server.rules[uid]["for"] == "1h", "a dry run changes nothing"
    assert set(told) == {what for what, p in push(config).items() if p.state == "changed"}
    assert [p for p in push(config).values() if p.state != "the same"] == []
    assert (server.rules[uid]["for"], server.interval) == ("10m", 60)


def test_what_others_have_there_stays(server: GrafanaServer, config: Path) -> None:
    server.points["theirs"] = {"uid": "theirs", "name": "theirs", "type": "email", "settings": {}}
    theirs = {"receiver": "theirs", "object_matchers": [["team", "=", "roads"]]}
    server.tree = {"receiver": "theirs", "group_by": ["alertname"], "routes": [theirs], "provenance": "api"}
    push(config)
    assert server.tree["receiver"] == "theirs"
    assert server.tree["routes"][-1] == theirs
    assert len(server.tree["routes"]) == 5
    assert [p for p in push(config).values() if p.state != "the same"] == []


def test_a_rule_of_ours_that_is_no_more_goes(server: GrafanaServer, config: Path) -> None:
    push(config)
    server.rules["maillages-old"] = server.rules["maillages-batterie"] | {"uid": "maillages-old", "id": 99}
    assert push(config)["rule maillages-old"].state == "changed"
    assert "maillages-old" not in server.rules


def test_secrets_are_sent_again_only_when_asked_for(server: GrafanaServer, config: Path) -> None:
    push(config)
    config.write_text(config.read_text().replace(HOOK, "n" * 43))
    push(config)
    assert server.points[CENTRAL]["settings"]["password"] == HOOK, "it cannot be compared"
    push(config, secrets=True)
    assert server.points[CENTRAL]["settings"]["password"] == "n" * 43


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (("right", "other"), NeedsPerson, "does not take grafana.token"),
        (("127.0.0.1", "127.0.0.2"), Unavailable, "no answer"),
        (("http://127", "https://127"), Unavailable, "SSL"),
    ],
)
def test_what_is_wrong_is_said(
    server: GrafanaServer, config: Path, wrong: tuple[str, str], error: type, said: str
) -> None:
    before, after = wrong
    head, _, tail = config.read_text().partition("[grafana]")
    config.write_text(f"{head}[grafana]{tail.replace(before, after)}")
    with pytest.raises(error, match=said):
        Grafana(load(config)).version()


def test_one_that_is_too_old_or_a_token_that_may_not_is_said(server: GrafanaServer, config: Path) -> None:
    server.version = "8.5.2"
    with pytest.raises(NeedsPerson, match=r"Grafana 8.5.2, expected 9.2 or later"):
        Grafana(load(config)).version()
    server.version, server.may = "13.1.0", False
    assert Grafana(load(config)).version() == "13.1.0"
    with pytest.raises(NeedsPerson, match="role Admin"):
        push(config)


# ---------------------------------------------------------------------- verify


def test_verify_asks_every_query_with_a_value_that_has_data(server: GrafanaServer, config: Path) -> None:
    def frames(query: str) -> list[list[Any]]:
        if query.startswith("SHOW TAG VALUES"):
            return [["silent", "hoyoux-huy"]]
        if "'silent'" in query or "broker_dropped" in query:
            return []
        if '"co2"' in query:
            raise ValueError("field type conflict")
        return [[1, 2], [3, 4]]

    server.frames = frames
    found = list(Grafana(load(config)).verify())
    assert found[0].state == "ok"
    assert len([c for c in found if c.what.startswith("rule: ")]) == len(RULES)
    assert {c.state for c in found if c.what.startswith("station ")} == {"ok"}
    assert {c.what for c in found if c.state == "no data"} >= {"rule: Messages perdus au courtier"}
    wrong = [c for c in found if c.state == "error"]
    assert wrong
    assert all("field type conflict" in c.detail for c in wrong)
    assert not any("$station" in q or "$commune" in q for q in server.queries)


def test_verify_of_a_dead_database_says_it_once(server: GrafanaServer, config: Path) -> None:
    server.health = {"message": "connection refused error performing influxQL query", "status": "ERROR"}
    (only,) = Grafana(load(config)).verify()
    assert (only.state, "connection refused" in only.detail) == ("error", True)


# ---------------------------------------------------------------------- write, and the command


def test_write_brings_all_files_and_again_none(tmp_path: Path) -> None:
    span = Span.parse("2026-12-05T09:00+01:00/2026-12-05T12:30+01:00")
    assert all(written for _, written in write(tmp_path, span))
    assert not any(written for _, written in write(tmp_path, span))
    rules = json.loads((tmp_path / "provisioning/alerting/maillages.json").read_text())
    assert rules["muteTimes"][0]["time_intervals"] == [span.interval()]
    changed = [path.name for path, written in write(tmp_path) if written]
    assert changed == ["maillages.json"]
    committed = {
        p.relative_to(ROOT)
        for part in ("dashboards", "maps", "provisioning")
        for p in (ROOT / part).rglob("*")
        if p.is_file()
    }
    assert {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()} == committed


def test_the_file_of_the_data_source_says_what_is_pushed() -> None:
    (file,) = yaml.safe_load((ROOT / "provisioning/datasources/maillages.yaml").read_text())["datasources"]
    names = [f"$MAILLAGES_INFLUX_{n}" for n in ("URL", "DB", "USER", "PASSWORD")]
    pushed = source(*names)
    assert {k: v for k, v in file.items() if k not in ("isDefault", "editable")} == {
        k: v for k, v in pushed.items() if k != "database"
    }


def test_the_command_says_what_it_did(server: GrafanaServer, config: Path) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        program = [
            sys.executable,
            "-c",
            "from central.cli import main; main()",
            "grafana",
            *arguments,
            "-c",
            str(config),
        ]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, cwd=ROOT.parent)
        return done.returncode, done.stdout, done.stderr

    code, out, _ = run("push", "--dry-run")
    assert (code, "rule 'Montée rapide': missing" in out, server.written) == (1, True, [])
    code, out, _ = run("verify")
    assert (code, out.splitlines()[-1].endswith("0 no data, 0 error")) == (0, True)
    server.may = False
    code, out, err = run("push")
    assert (code, "role Admin" in err, "Traceback" in err) == (2, True, False)
