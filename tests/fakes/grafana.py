"""A Grafana by its HTTP API, as far as central speaks it. It keeps what it is given and answers as a real one did.

`grafana_answers.json` has the requests and answers of that real one, backend of a source snapshot of January 2023 (9.4.0-pre, which
calls itself 9.2.0); a test puts the same requests to this one and compares.
"""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
REDACTED = "[REDACTED]"
SECRETS = {"webhook": ("password", "authorization_credentials")}
NEWER = {"isPaused", "keep_firing_for", "missingSeriesEvalsToResolve"}


class GrafanaServer:
    """`with GrafanaServer() as there:` serves at `there.url`. `version` is what it calls itself. `frames(query)`: the columns that a query
    returns, [] for none; ValueError with what the database says for one that fails. `may`: whether the token may write."""

    def __init__(self, frames: Callable[[str], list[list[Any]]] = lambda _: [[1, 2]]) -> None:
        self.token, self.version, self.may, self.frames = "right", "9.2.0", True, frames
        self.asked: list[tuple[str, str]] = []
        self.sources: dict[str, Json] = {}
        self.folders: dict[str, Json] = {}
        self.boards: dict[str, Json] = {}
        self.templates: dict[str, str] = {}
        self.points: dict[str, Json] = {}
        self.timings: dict[str, Json] = {}
        self.tree: Json = {"receiver": "grafana-default-email", "group_by": ["grafana_folder", "alertname"]}
        self.rules: dict[str, Json] = {}
        self.interval = 60
        self.health: Json = {"message": "datasource is working. 20 measurements found", "status": "OK"}
        self.queries: list[str] = []
        self.url = ""

    def __enter__(self) -> "GrafanaServer":
        class Handler(BaseHTTPRequestHandler):
            def answer(handler) -> None:  # noqa: N805
                length = int(handler.headers.get("content-length") or 0)
                body = json.loads(handler.rfile.read(length)) if length else None
                bearer = handler.headers.get("authorization", "").removeprefix("Bearer ")
                status, answer = self.ask(handler.command, handler.path.removeprefix("/api"), body, bearer)
                text = b"" if status == 204 else json.dumps(answer).encode()
                handler.send_response(status)
                handler.send_header("content-type", "application/json")
                handler.send_header("content-length", str(len(text)))
                handler.end_headers()
                handler.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def written(self) -> list[tuple[str, str]]:
        """What was asked of it that changes something."""
        return [(method, path) for method, path in self.asked if method != "GET" and path != "/ds/query"]

    def ask(self, method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
        self.asked.append((method, path))
        if path == "/health":
            return 200, {"commit": "NA", "database": "ok", "version": self.version}
        if token != self.token:
            return 401, {"message": "invalid API key", "traceID": ""}
        if not self.may and path != "/org":
            needed = "You'll need additional permissions to perform this action. Permissions needed: datasources:read"
            return 403, {"accessErrorId": "ACE1", "message": needed, "title": "Access denied"}
        for pattern, handle in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found:
                return handle(self, method, body, *found.groups())
        return 404, {"message": "Not found"}

    # ------------------------------------------------------------------ each thing

    def org(self, _method: str, _body: Any) -> tuple[int, Any]:
        empty = dict.fromkeys(("address1", "address2", "city", "zipCode", "state", "country"), "")
        return 200, {"id": 1, "name": "Main Org.", "address": empty}

    def folder(self, method: str, body: Any, uid: str | None = None) -> tuple[int, Any]:
        uid = uid or body["uid"]
        if method == "GET" and uid not in self.folders:
            return 404, {"message": "folder not found", "status": "not-found"}
        if method != "GET":
            self.folders[uid] = {"uid": uid, "title": body["title"]}
        return 200, {"id": 1, **self.folders[uid], "canSave": True, "version": 1}

    def source(self, method: str, body: Any, uid: str | None = None) -> tuple[int, Any]:
        if method == "GET":
            known = self.sources.get(uid or "")
            return (200, known) if known else (404, {"message": "Data source not found"})
        secrets = dict.fromkeys(body.pop("secureJsonData", {}), True)
        made = {"id": 1, "orgId": 1, "isDefault": False, "readOnly": False, "secureJsonFields": secrets, **body}
        self.sources[body["uid"]] = made
        said = "updated" if method == "PUT" else "added"
        return 200, {"datasource": made, "id": 1, "message": f"Datasource {said}", "name": body["name"]}

    def source_health(self, _method: str, _body: Any) -> tuple[int, Any]:
        return (200 if self.health["status"] == "OK" else 400), self.health

    def board(self, method: str, body: Any, uid: str | None = None) -> tuple[int, Any]:
        if method == "GET":
            known = self.boards.get(uid or "")
            return (200, known) if known else (404, {"message": "Dashboard not found", "traceID": ""})
        board = body["dashboard"]
        before = self.boards.get(board["uid"])
        number = before["dashboard"]["id"] if before else len(self.boards) + 2
        version = before["dashboard"]["version"] + 1 if before else 1
        self.boards[board["uid"]] = {
            "meta": {"type": "db", "folderUid": body["folderUid"], "version": version, "provisioned": False},
            "dashboard": {**board, "id": number, "version": version},
        }
        return 200, {"id": number, "status": "success", "uid": board["uid"], "version": version}

    def template(self, _method: str, body: Any, name: str | None = None) -> tuple[int, Any]:
        if name is None:
            return 200, [{"name": n, "template": t} for n, t in self.templates.items()]
        self.templates[name] = body["template"].strip()
        return 202, {"name": name, "template": self.templates[name], "provenance": "api"}

    def point(self, method: str, body: Any, uid: str | None = None) -> tuple[int, Any]:
        default = {
            "uid": "", "name": "email receiver", "type": "email", "settings": {"addresses": "<example@email.com>"},
            "disableResolveMessage": False,
        }  # fmt: skip
        if method == "GET":
            return 200, [default, *(_redacted(p) | {"provenance": "api"} for p in self.points.values())]
        self.points[uid or body["uid"]] = body
        if method == "PUT":
            return 202, {"message": "contactpoint updated"}
        shown = _redacted(body) | {"provenance": "api"}
        shown["settings"] = dict.fromkeys(SECRETS.get(body["type"], ()), REDACTED) | shown["settings"]
        return 202, shown

    def timing(self, method: str, body: Any, name: str | None = None) -> tuple[int, Any]:
        if method == "GET":
            return 200, list(self.timings.values())
        self.timings[body["name"]] = body
        return (201 if name is None else 202), body | {"provenance": "api"}

    def policies(self, method: str, body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, self.tree
        names = {p["name"] for p in self.points.values()} | {"grafana-default-email"}
        for route in (body, *body.get("routes", ())):
            if route["receiver"] not in names:
                why = f"invalid object specification: receiver '{route['receiver']}' does not exist"
                return 400, {"message": why, "traceID": ""}
        self.tree = body | {"provenance": "api"}
        return 202, {"message": "policies updated"}

    def rule(self, method: str, body: Any, uid: str | None = None) -> tuple[int, Any]:
        if method == "DELETE":
            del self.rules[uid or ""]
            return 204, ""
        before = self.rules.get(uid or "")
        number = before["id"] if before else max((r["id"] for r in self.rules.values()), default=0) + 1
        kept = {k: v for k, v in body.items() if k not in NEWER}
        data = [d | {"model": {"intervalMs": 1000, "maxDataPoints": 43200} | d["model"]} for d in body["data"]]
        made = {**kept, "id": number, "for": _duration(body["for"]), "data": data, "provenance": "api"}
        self.rules[body["uid"]] = made
        return (200 if uid else 201), made

    def group(self, method: str, body: Any) -> tuple[int, Any]:
        if method == "PUT":
            for rule in body["rules"]:
                if rule["uid"] not in self.rules:
                    why = f"failed to update rule with UID {rule['uid']} because could not find alert rule"
                    return 500, {"message": f"failed to calculate diff for alert rules: {why}", "traceID": ""}
            self.interval = body["interval"]
            return 200, body
        if not self.rules:
            return 404, {"message": "rulegroup not found", "traceID": ""}
        rules = [{k: v for k, v in r.items() if k != "provenance"} for r in self.rules.values()]
        return 200, {"title": "maillages-1m", "folderUid": "maillages", "interval": self.interval, "rules": rules}

    def query(self, _method: str, body: Any) -> tuple[int, Any]:
        results = {}
        for query in body["queries"]:
            if "query" not in query:
                results[query["refId"]] = {"status": 200, "frames": []}
                continue
            self.queries.append(query["query"])
            try:
                columns = self.frames(query["query"])
            except ValueError as e:
                return 400, {"results": {query["refId"]: {"error": str(e), "status": 500}}}
            frames = [{"schema": {"refId": query["refId"]}, "data": {"values": columns}}] if columns else []
            results[query["refId"]] = {"status": 200, "frames": frames}
        return 200, {"results": results}


def _redacted(point: Json) -> Json:
    settings = {k: REDACTED if k in SECRETS.get(point["type"], ()) else v for k, v in point["settings"].items()}
    return point | {"settings": settings}


def _duration(text: str) -> str:
    """As Prometheus writes it: whole hours, minutes, seconds."""
    left, parts = int(text.removesuffix("s")), []
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


_ROUTES: list[tuple[str, Callable[..., tuple[int, Any]]]] = [
    ("/org/?", GrafanaServer.org),
    ("/folders", GrafanaServer.folder),
    ("/folders/(.+)", GrafanaServer.folder),
    ("/datasources", GrafanaServer.source),
    ("/datasources/uid/[^/]+/health", GrafanaServer.source_health),
    ("/datasources/uid/(.+)", GrafanaServer.source),
    ("/dashboards/db", GrafanaServer.board),
    ("/dashboards/uid/(.+)", GrafanaServer.board),
    ("/v1/provisioning/templates(?:/(.+))?", GrafanaServer.template),
    ("/v1/provisioning/contact-points(?:/(.+))?", GrafanaServer.point),
    ("/v1/provisioning/mute-timings(?:/(.+))?", GrafanaServer.timing),
    ("/v1/provisioning/policies", GrafanaServer.policies),
    ("/v1/provisioning/alert-rules(?:/(.+))?", GrafanaServer.rule),
    ("/v1/provisioning/folder/maillages/rule-groups/maillages-1m", GrafanaServer.group),
    ("/ds/query", GrafanaServer.query),
]
