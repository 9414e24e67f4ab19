"""Boards and alert rules brought into a Grafana: as files for its provisioning, or by its API; and whether they work there.

The one importer of grafana-client. What is compared is what we set: whatever else Grafana adds stays. Secrets cannot be read back, so
they are sent with what differs, or when asked for. Other people's folders, boards, rules, contact points and routes are left alone.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from grafana_client import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException, GrafanaServerError, GrafanaUnauthorizedError

from central.config import CentralConfig, InfluxDb
from central.config import Grafana as Settings
from central.errors import ConfigError, NeedsPerson, Refused, Unavailable
from common.difference import differences
from grafana import alerts, boards
from grafana.alerts import Addresses, Span
from grafana.model import DATASOURCE, Json
from grafana.source import source

TIMEOUT_S = 30.0
OLDEST = (9, 2)
FOLDER_UID = "maillages"
_NEWER_KEYS = frozenset({"isPaused", "keep_firing_for", "missingSeriesEvalsToResolve"})
"""Of a rule: older servers drop them."""
_DEFAULT_RECEIVERS = frozenset({"grafana-default-email", "empty"})
_SECRET = "[REDACTED]"  # noqa: S105 - how Grafana shows one


# ---------------------------------------------------------------------- files


def write(directory: Path, exercise: Span = alerts.NO_EXERCISE) -> Iterator[tuple[Path, bool]]:
    """Everything for Grafana's provisioning, and whether each file was written; one that is the same already is left. Raises Refused."""
    made = {path: file.read_bytes() for path, file in _files(resources.files("grafana"), Path())}
    made[Path("provisioning/alerting/maillages.json")] = boards.text(alerts.provisioning(exercise)).encode()
    for path, content in sorted(made.items()):
        file = directory / path
        try:
            differs = not file.exists() or file.read_bytes() != content
            if differs:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        except OSError as e:
            raise Refused(f"{file}: cannot be written: {e.strerror}") from e
        yield file, differs


def _files(where: Traversable, path: Path) -> Iterator[tuple[Path, Traversable]]:
    for entry in where.iterdir():
        if entry.is_dir():
            if path != Path() or entry.name in ("dashboards", "provisioning", "maps"):
                yield from _files(entry, path / entry.name)
        elif path != Path():
            yield path / entry.name, entry


# ---------------------------------------------------------------------- pushing


@dataclass(frozen=True, slots=True)
class Pushed:
    """`what` became of a thing; `differs` says in lines how Grafana's had differed."""

    what: str
    state: Literal["the same", "made", "changed"]
    differs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    what: str
    state: Literal["ok", "no data", "error"]
    detail: str = ""


class Grafana:
    """A Grafana as `central.toml` names it. Raises ConfigError without such a section, or a database that Grafana can ask."""

    def __init__(self, config: CentralConfig) -> None:
        if config.grafana is None:
            raise ConfigError(
                "central.toml has no [grafana]; expected url, token, technicians (`maillages-central config --example` shows them)"
            )
        if not isinstance(config.store, InfluxDb):
            raise ConfigError("central.toml: store.kind: Grafana's boards ask InfluxDB, expected influxdb")
        self._settings: Settings = config.grafana
        self._store = config.store
        self._page = config.web.public_url.rstrip("/")
        parts = urlsplit(self._settings.url)
        self._api = GrafanaApi(
            self._settings.token,
            protocol=parts.scheme,
            host=parts.hostname,
            port=parts.port,
            url_path_prefix=f"{parts.path.strip('/')}/".lstrip("/"),
            verify=str(self._settings.ca) if self._settings.ca else True,
            timeout=TIMEOUT_S,
        )

    def version(self) -> str:
        """Raises Unavailable and NeedsPerson: no Grafana there, too old, or the token is not taken."""
        health = self._found(self._api.health.check)
        if not isinstance(health, dict) or "database" not in health:
            raise NeedsPerson(f"{self._settings.url}: no Grafana answers there")
        found = str(health.get("version", "of a version that it does not tell"))
        numbers = re.match(r"(\d+)\.(\d+)", found)
        if numbers and tuple(map(int, numbers.groups())) < OLDEST:
            raise NeedsPerson(f"{self._settings.url}: Grafana {found}, expected 9.2 or later")
        with self._told("the token"):
            self._api.organization.get_current_organization()
        return found

    def push(
        self, exercise: Span = alerts.NO_EXERCISE, *, secrets: bool = False, dry_run: bool = False
    ) -> Iterator[Pushed]:
        """Bring everything there, in the order in which one thing needs the other. `secrets`: send them also where nothing differs.
        Raises Unavailable and NeedsPerson; what was told by then is done."""
        settings, rules = self._settings, self._api.alertingprovisioning
        to = Addresses(
            settings.webhook_url or f"{self._page}/api/grafana", settings.webhook_token, ";".join(settings.technicians)
        )
        made = alerts.provisioning(exercise, to)

        def one(what: str, old: Any, new: Json, create: Any, update: Any, *, hidden: bool = False) -> Pushed:
            found = _differences(old, new) if old is not None else []
            if old is not None and not found and not (hidden and secrets):
                return Pushed(what, "the same")
            if not dry_run:
                with self._told(what):
                    (create if old is None else update)()
            return Pushed(what, "made" if old is None else "changed", found or (["secrets sent again"] if old else []))

        folder = {"uid": FOLDER_UID, "title": alerts.FOLDER}
        yield one(
            f"folder {alerts.FOLDER!r}",
            self._found(lambda: self._api.folder.get_folder(FOLDER_UID)),
            folder,
            lambda: self._api.folder.create_folder(alerts.FOLDER, FOLDER_UID),
            lambda: self._api.folder.update_folder(FOLDER_UID, alerts.FOLDER, overwrite=True),
        )
        data = source(
            settings.database_url or self._store.url,
            self._store.database,
            settings.database_username,
            settings.database_password,
        )
        old = self._found(lambda: self._api.datasource.get_datasource_by_uid(DATASOURCE["uid"]))
        yield one(
            f"data source {data['name']!r}",
            old,
            data,
            lambda: self._api.datasource.create_datasource(data),
            lambda: self._api.datasource.update_datasource_by_uid(DATASOURCE["uid"], data),
            hidden=True,
        )
        for name, board in boards.BOARDS.items():
            yield self._push_board(name, board().json(), one)
        templates = {t["name"]: t for t in self._found(rules.get_templates) or ()}
        for template in _bare(made["templates"]):
            yield one(
                f"message template {template['name']!r}",
                templates.get(template["name"]),
                template,
                *[lambda t=template: rules.create_or_update_template(t["name"], {"template": t["template"]})] * 2,
            )
        points = {p["uid"]: p for p in self._found(rules.get_contactpoints) or ()}
        for point in alerts.receivers(to):
            yield one(
                f"contact point {point['name']!r}",
                points.get(point["uid"]),
                point,
                lambda p=point: rules.create_contactpoint(p),
                lambda p=point: rules.update_contactpoint(p["uid"], p),
                hidden=True,
            )
        timings = {t["name"]: t for t in self._found(rules.get_mute_timings) or ()}
        for timing in _bare(made["muteTimes"]):
            yield one(
                f"mute timing {timing['name']!r}",
                timings.get(timing["name"]),
                timing,
                lambda t=timing: rules.create_mute_timing(t),
                lambda t=timing: rules.update_mute_timing(t["name"], t),
            )
        tree = self._found(rules.get_notification_policy_tree) or {}
        wanted = _merged(tree, _bare(made["policies"])[0])
        yield one("notification policies", tree, wanted, *[lambda: rules.set_notification_policy_tree(wanted)] * 2)
        yield from self._push_rules(made["groups"][0], one)

    def _push_board(self, name: str, board: Json, one: Any) -> Pushed:
        old = self._found(lambda: self._api.dashboard.get_dashboard(board["uid"]))
        known = None if old is None else {**old["dashboard"], "folder": old["meta"].get("folderUid")}
        wanted = {k: v for k, v in board.items() if k != "version"} | {
            "folder": FOLDER_UID
        }  # Grafana counts its versions

        def save() -> None:
            self._api.dashboard.update_dashboard(
                {"dashboard": {**board, "id": None}, "folderUid": FOLDER_UID, "overwrite": True}
            )

        pushed: Pushed = one(f"board {name}", known, wanted, save, save)
        return pushed

    def _push_rules(self, group: Json, one: Any) -> Iterator[Pushed]:
        """One by one: servers of 9 do not take a group with rules that are new to them."""
        api = self._api.alertingprovisioning

        def there() -> Json:
            return self._found(lambda: api.get_rule_group(FOLDER_UID, alerts.GROUP)) or {"rules": []}

        known = {r["uid"]: r for r in there().get("rules") or ()}
        wanted = {r["uid"]: r for r in (_api_rule(rule) for rule in group["rules"])}
        for uid, rule in wanted.items():
            old = _comparable(known[uid]) if uid in known else None
            yield one(
                f"rule {rule['title']!r}",
                old,
                _comparable(rule, old),
                lambda r=rule: api.create_alertrule(r),
                lambda r=rule: api.update_alertrule(r["uid"], r),
            )
        for uid in known.keys() - wanted.keys():
            gone = {"rule": uid, "is": "ours no more"}
            yield one(f"rule {uid}", gone, {"rule": "none"}, None, lambda u=uid: api.delete_alertrule(u))
        every = _seconds(group["interval"])
        old = there()
        if not old["rules"]:  # nothing was written: a dry run
            return
        yield one(
            f"group {alerts.GROUP}",
            {"interval": old["interval"]},
            {"interval": every},
            None,
            lambda: api.update_rule_group(FOLDER_UID, alerts.GROUP, old | {"interval": every}),
        )

    # ------------------------------------------------------------------ verifying

    def verify(self) -> Iterator[Checked]:
        """Ask everything through Grafana, as boards and rules do. Raises Unavailable and NeedsPerson."""
        health = self._health()
        yield health
        if health.state == "error":  # so would all the rest
            return
        for name, board in boards.BOARDS.items():
            made = board().json()
            try:
                variables = [self._values(v) for v in made["templating"]["list"]]
            except (NeedsPerson, Unavailable) as e:
                yield Checked(f"{name}: variables", "error", str(e))
                continue
            span = made["time"]["from"], made["time"]["to"]
            for note in made["annotations"]["list"]:
                if "query" in note.get("target", {}):
                    yield self._panel(f"{name}: annotations {note['name']!r}", note["target"], span, variables)
            for panel in made["panels"]:
                back = (f"now-{panel['timeFrom']}", "now") if "timeFrom" in panel else span
                for target in panel["targets"]:
                    what = f"{name} {panel['id']}{target['refId']}: {panel['title']}"
                    yield self._panel(what, target, back, variables)
        for rule in alerts.RULES:
            models = [d["model"] for d in rule.data()]
            yield self._ask(f"rule: {rule.title}", models, (f"now-{rule.span_s}s", "now"))

    def _health(self) -> Checked:
        try:
            with self._told("the data source"):
                said = self._api.datasource.health(DATASOURCE["uid"])
        except NeedsPerson as e:
            return Checked("data source", "error", str(e))
        good = said.get("status") == "OK"
        return Checked("data source", "ok" if good else "error", str(said.get("message", "")))

    def _values(self, variable: Json) -> tuple[str, list[str]]:
        """The name of a variable, and the values to try: the one of a person who chooses nothing first."""
        name = str(variable["name"])
        if variable.get("includeAll"):
            return name, [".*"]
        if variable["type"] != "query":
            chosen = str(variable["current"]["value"])
            others = [o.rpartition(":")[2].strip() for o in str(variable["query"]).split(",")]
            return name, list(dict.fromkeys([chosen, *others]))
        model = {
            "refId": "A",
            "datasource": DATASOURCE,
            "query": variable["query"],
            "rawQuery": True,
            "resultFormat": "table",
        }
        frames = self._frames([model], ("now-24h", "now"))
        values = [str(v) for columns in frames for v in columns[-1]]
        return name, list(dict.fromkeys(values))

    def _panel(
        self, what: str, target: Json, span: tuple[str, str], variables: Sequence[tuple[str, list[str]]]
    ) -> Checked:
        """One query; with the values of its variable until one returns data."""
        used = [(name, values) for name, values in variables if f"${name}" in target["query"]]
        checked = Checked(what, "no data", f"{used[0][0]} has no value") if used and not used[0][1] else None
        for value in used[0][1] if used else [""]:
            query = target["query"].replace(f"${used[0][0]}", value) if used else target["query"]
            checked = self._ask(what, [target | {"query": query}], span)
            if checked.state != "no data":
                break
        return checked or Checked(what, "no data")

    def _ask(self, what: str, models: Sequence[Json], span: tuple[str, str]) -> Checked:
        try:
            frames = self._frames(models, span)
        except (NeedsPerson, Unavailable) as e:
            return Checked(what, "error", str(e))
        rows = max((len(column) for columns in frames for column in columns), default=0)
        return Checked(what, "ok" if rows else "no data")

    def _frames(self, models: Sequence[Json], span: tuple[str, str]) -> list[list[list[Any]]]:
        """The columns of every frame that comes back. Raises NeedsPerson with what the database said."""
        queries = [{"intervalMs": 60_000, "maxDataPoints": 1500, "datasource": DATASOURCE, **model} for model in models]
        with self._told("a query"):
            answer = self._api.client.POST("/ds/query", json={"from": span[0], "to": span[1], "queries": queries})
        results: Mapping[str, Any] = answer["results"]
        wrong = [str(r["error"]) for r in results.values() if r.get("error")]
        if wrong:
            raise NeedsPerson("; ".join(dict.fromkeys(wrong)))
        return [frame["data"]["values"] for r in results.values() for frame in r.get("frames") or ()]

    # ------------------------------------------------------------------ asking

    def _found(self, get: Any) -> Any:
        """What there is; None where there is none."""
        with self._told("what there is"):
            try:
                return get()
            except GrafanaClientError as e:
                if e.status_code == 404:
                    return None
                raise

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """An error in the words of what a person can do."""
        url = self._settings.url
        try:
            yield
        except GrafanaUnauthorizedError:
            raise NeedsPerson(
                f"{url} does not take grafana.token: expected that of a service account that exists"
            ) from None
        except GrafanaServerError as e:
            raise Unavailable(f"{url}, {what}: {e.message}") from None
        except GrafanaException as e:
            if e.status_code == 403 and "ermission" in str(e.message):
                raise NeedsPerson(
                    f"{url}, {what}: grafana.token may not do this, expected a service account with the role Admin"
                ) from None
            raise NeedsPerson(f"{url}, {what}: {_why(e)}") from None
        except OSError as e:  # requests' errors are such
            e = getattr(e.args[0], "reason", e) if e.args else e
            hint = "; [grafana] ca names the CA of its certificate" if "CERTIFICATE" in str(e) else ""
            raise Unavailable(f"{url}: no answer: {e}{hint}") from None
        except ValueError:
            raise NeedsPerson(f"{url}: no Grafana answers there") from None


def _why(error: GrafanaException) -> str:
    said = error.response
    if isinstance(said, dict) and "results" in said:  # of a query: what the database said
        return "; ".join(dict.fromkeys(str(r.get("error")) for r in said["results"].values()))
    return str(said.get("message") or said.get("error") or said) if isinstance(said, dict) else str(error.message)


def _bare(things: Sequence[Json]) -> list[Json]:
    """Without what only files have."""
    return [{k: v for k, v in thing.items() if k != "orgId"} for thing in things]


def _seconds(text: str) -> int:
    """Of a Go duration such as `1m` or `1h30m`."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(n) * units[u] for n, u in re.findall(r"(\d+)([hms])", text))


def _differences(old: Json, new: Json) -> list[str]:
    """Of what we set, what Grafana has otherwise."""
    return differences(_alike(old, new), {k: v for k, v in new.items() if k != "secureJsonData"})


def _alike(old: Any, new: Any) -> Any:
    """`old` with the keys of `new` alone. What Grafana does not show is taken for ours."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {k: _alike(old[k], v) for k, v in new.items() if k in old and k != "secureJsonData"}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_alike(o, n) for o, n in zip(old, new, strict=True)]
    return new if old == _SECRET else old


def _api_rule(rule: Json) -> Json:
    """A rule of a file as the API has it."""
    names = {"keepFiringFor": "keep_firing_for", "missing_series_evals_to_resolve": "missingSeriesEvalsToResolve"}
    left = {names.get(k, k): v for k, v in rule.items() if k not in ("dashboardUid", "panelId")}
    return left | {"orgID": 1, "folderUID": FOLDER_UID, "ruleGroup": alerts.GROUP}


def _comparable(rule: Json, there: Json | None = None) -> Json:
    """Durations as seconds; without what the server at the other end (`there`) does not know."""
    known = {k: v for k, v in rule.items() if there is None or k not in _NEWER_KEYS or k in there}
    return known | {k: _seconds(str(known[k])) for k in ("for", "keep_firing_for") if k in known}


def _merged(tree: Json, ours: Json) -> Json:
    """The policies of the organisation with our routes first, and those of others behind. The root is ours where it was nobody's."""
    names = {alerts.CENTRAL, alerts.TECHNICIANS}
    others = [r for r in tree.get("routes") or () if r.get("receiver") not in names]
    root = tree.get("receiver")
    if root is None or root in names | _DEFAULT_RECEIVERS:
        return {**ours, "routes": [*ours["routes"], *others]}
    kept = {k: v for k, v in tree.items() if k not in ("routes", "provenance")}
    return {**kept, "routes": [*ours["routes"], *others]}
