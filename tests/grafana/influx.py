"""A database, asked as Grafana's data source asks."""

import re
import urllib.parse
from typing import Any

import urllib3

from central.store.base import Point
from central.store.influx import line

Rows = list[dict[str, Any]]


class Influx:
    def __init__(self, url: str, now_ms: int) -> None:
        self._url = url
        self._now_ms = now_ms

    def create(self, database: str) -> None:
        self._post("/query", {}, urllib.parse.urlencode({"q": f'CREATE DATABASE "{database}"'}))

    def write(self, database: str, points: list[Point]) -> None:
        self._post("/write", {"db": database, "precision": "ms"}, "\n".join(line(p) for p in points))

    def ask(
        self,
        query: str,
        *,
        database: str = "maillages",
        now: int | None = None,
        span: int = 86_400_000,
        ahead: int = 0,
        **variables: str,
    ) -> list[tuple[dict[str, str], Rows]]:
        """Series as (tags, rows) from `span` ms before `now` to `ahead` ms after, macros and variables expanded as Grafana does."""
        now = self._now_ms if now is None else now
        text = expand(query, now - span, now + ahead, {"commune": ".*", "station": "hoyoux-huy"} | variables)
        answer = self._post("/query", {"db": database, "epoch": "ms"}, urllib.parse.urlencode({"q": text}))
        (result,) = answer["results"]
        assert "error" not in result, (result, text)
        return [
            (series.get("tags", {}), [dict(zip(series["columns"], row, strict=True)) for row in series["values"]])
            for series in result.get("series", [])
        ]

    def _post(self, path: str, parameters: dict[str, str], body: str) -> Any:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = urllib3.request(
            "POST", f"{self._url}{path}?{urllib.parse.urlencode(parameters)}", body=body, headers=headers
        )
        assert answer.status < 300, (answer.data, body)
        return answer.json() if answer.data else None


def expand(query: str, start_ms: int, end_ms: int, variables: dict[str, str]) -> str:
    """Macros and variables replaced; nothing of Grafana's may be left."""
    text = query.replace("$timeFilter", f"time >= {start_ms}ms and time <= {end_ms}ms")
    text = text.replace("$__interval_ms", "60000").replace("$__interval", "1m")
    for name, value in variables.items():
        text = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", lambda _, v=value: v, text)
    assert not re.search(r"\$[A-Za-z_{]", text), text
    return text
