# mypy: untyped-calls-exclude=influxdb_client
"""InfluxDB: the one path that 1.6 to 3.x and VictoriaMetrics accept, `/write` and `/query` with Basic authentication.

On 2.x and 3.x the user is any text and the password an API token; on 2.x the database is a bucket of that name (a virtual
DBRP mapping exists since 2.4), which `setup_2x` makes. Reads are InfluxQL that all of them run: one selector a query, no
retention policy, no SLIMIT. What VictoriaMetrics acknowledges it may lose in a crash, and it cannot be read by InfluxQL.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import urllib3

from central.errors import NeedsPerson, Unavailable
from central.store.base import Point, Reading, Rejected, Row, Value, WriteResult
from central.store.lineprotocol import line

BATCH = 5000
"""Lines a post, InfluxData's own advice for 1.x."""

_PAGE = 10_000  # rows of a series in one answer of `dump`
_CONNECTIONS = 8
_CONNECT_TIMEOUT_S = 5.0
_REASON_LENGTH = 500

_PARTIAL = ("partial write", "partiallpwrite")  # "partial write of line protocol occurred" in 3.x
_NOT_THE_POINTS = ("retention policy not found", "database is required", "would exceed limit", "no dbrp mapping")


class Influx:
    """A Store on an InfluxDB server. Constructing connects nothing; connections are kept alive and shared by threads.

    `url` without a path of its own unless a proxy adds one; `timeout_s` is for one answer. `compress` (gzip) pays across a
    real network, never on loopback.
    """

    def __init__(
        self,
        url: str,
        database: str,
        username: str | None = None,
        password: str | None = None,
        *,
        timeout_s: float = 15.0,
        compress: bool = False,
    ) -> None:
        self._url = url.rstrip("/")
        self._database = database
        self._compress = compress
        self._write_url = f"{self._url}/write?{urlencode({'db': database, 'precision': 'ms'})}"
        headers = {}
        if username is not None:
            credentials = base64.b64encode(f"{username}:{password or ''}".encode()).decode()  # UTF-8: RFC 7617, 2.1
            headers["Authorization"] = f"Basic {credentials}"
        self._http = urllib3.PoolManager(
            num_pools=1,
            maxsize=_CONNECTIONS,
            headers=headers,
            retries=False,
            timeout=urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, timeout_s), read=timeout_s),
        )

    def setup(self) -> None:
        """Create the database on 1.x where it is missing; 2.x needs its bucket first (`setup_2x`), 3.x nothing."""
        names = {row[0] for series in self._query("SHOW DATABASES", missing_is_empty=True) for row in series["values"]}
        if self._database not in names:
            self._query(f"CREATE DATABASE {_identifier(self._database)}", missing_is_empty=True)

    def ping(self) -> bool:
        try:
            return 200 <= self._request("GET", f"{self._url}/ping").status < 300
        except (Unavailable, NeedsPerson):
            return False

    def close(self) -> None:
        self._http.clear()

    # Writing

    def write(self, points: Sequence[Point | Reading]) -> WriteResult:
        """As Store.write, in posts of at most `BATCH` lines.

        A batch of which the server refuses a part is posted again in halves until every part is either confirmed or one
        refused point: what was stored is only overwritten by itself.
        """
        kept: list[Point | Reading] = []
        lines: list[str] = []
        rejected: list[Rejected] = []
        for point in points:
            try:
                lines.append(line(point))
            except ValueError as e:
                rejected.append(Rejected(point, str(e)))
            else:
                kept.append(point)
        for start in range(0, len(lines), BATCH):
            rejected += self._store(kept[start : start + BATCH], lines[start : start + BATCH])
        return WriteResult(tuple(rejected))

    def _store(self, points: list[Point | Reading], lines: list[str]) -> Iterator[Rejected]:
        reason = self._post("\n".join(lines).encode())
        if reason is None:
            return
        if len(points) == 1:
            yield Rejected(points[0], reason)
            return
        middle = len(points) // 2
        yield from self._store(points[:middle], lines[:middle])
        yield from self._store(points[middle:], lines[middle:])

    def _post(self, body: bytes) -> str | None:
        """None when all is stored, else why the server refuses at least one of the lines. Raises for everything else."""
        headers = dict(self._http.headers)
        if self._compress:
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        answer = self._request("POST", self._write_url, body=body, headers=headers)
        status = answer.status
        if status == 204:
            return None
        text = _reason(answer)
        lower = text.lower()
        if any(phrase in lower for phrase in _NOT_THE_POINTS):
            raise NeedsPerson(f"InfluxDB refuses writes to {self._database!r}: {status} {text}")
        if status in (400, 413, 422) or (status >= 500 and any(phrase in lower for phrase in _PARTIAL)):
            return f"{status} {text}"
        raise _error(answer, text)

    # Reading

    def series(
        self, measurement: str, tags: Mapping[str, str], field: str, start_ms: int, end_ms: int
    ) -> list[tuple[int, Value]]:
        found = self._select(f"SELECT {_identifier(field)}", measurement, _where(tags, start_ms, end_ms))
        return [(row[0], row[1]) for series in found for row in series["values"]]

    def last(self, measurement: str, tags: Mapping[str, str], field: str = "value") -> tuple[int, Value] | None:
        found = self._select(f"SELECT last({_identifier(field)})", measurement, _where(tags))
        return next(((row[0], row[1]) for series in found for row in series["values"]), None)

    def count(self, measurement: str, start_ms: int, end_ms: int, tags: Mapping[str, str], field: str = "value") -> int:
        found = self._select(f"SELECT count({_identifier(field)})", measurement, _where(tags, start_ms, end_ms))
        return sum(row[1] for series in found for row in series["values"])

    def dump(self, measurement: str, start_ms: int, end_ms: int) -> list[Row]:
        """As Store.dump. A page holds at most so many rows of each series, and ends where the first full one ends."""
        rows: list[Row] = []
        while True:
            tail = f"{_where({}, start_ms, end_ms)} GROUP BY * ORDER BY time LIMIT {_PAGE}"
            found = self._select("SELECT *", measurement, tail)
            full = [series["values"][-1][0] for series in found if len(series["values"]) == _PAGE]
            cut = min(full, default=end_ms)
            for series in found:
                columns, tags = series["columns"][1:], {k: v for k, v in series["tags"].items() if v}
                for time_ms, *values in series["values"]:
                    if time_ms <= cut:
                        fields = {c: v for c, v in zip(columns, values, strict=True) if v is not None}
                        rows.append(Row(tags, time_ms, fields))
            if not full:
                return sorted(rows, key=lambda row: (row.time_ms, sorted(row.tags.items())))
            start_ms = cut + 1

    def _select(self, what: str, measurement: str, tail: str) -> list[dict[str, Any]]:
        return self._query(f"{what} FROM {_identifier(measurement)}{tail}")

    def _query(self, text: str, *, missing_is_empty: bool = False) -> list[dict[str, Any]]:
        """The series of one statement's answer. `missing_is_empty`: a server without such a statement answers nothing."""
        answer = self._request(
            "POST",
            f"{self._url}/query?{urlencode({'db': self._database, 'epoch': 'ms'})}",
            body=urlencode({"q": text}, quote_via=quote).encode(),
            headers={**self._http.headers, "Content-Type": "application/x-www-form-urlencoded"},
        )
        if answer.status != 200:
            if missing_is_empty and "not implemented" in _reason(answer).lower():
                return []
            raise _error(answer, _reason(answer))
        try:
            result = json.loads(answer.data)["results"][0]
        except (ValueError, LookupError, TypeError) as e:
            raise NeedsPerson(f"{self._url} does not answer as InfluxDB does: {answer.data[:80]!r}") from e
        problem = result.get("error")
        if problem is None:
            found: list[dict[str, Any]] = result.get("series", [])
            return [series for series in found if "values" in series]
        if missing_is_empty and "not implemented" in problem.lower():
            return []
        if "timeout" in problem or "timed out" in problem or "limit exceeded" in problem:
            raise Unavailable(f"InfluxDB: {problem}")
        raise NeedsPerson(f"InfluxDB refuses a query: {problem}")

    def _request(self, method: str, url: str, **more: Any) -> urllib3.BaseHTTPResponse:
        try:
            return self._http.request(method, url, redirect=False, **more)
        except (urllib3.exceptions.SSLError, urllib3.exceptions.LocationValueError) as e:
            raise NeedsPerson(f"{self._url}: {e}") from e
        except (urllib3.exceptions.HTTPError, HTTPException, OSError) as e:
            raise Unavailable(f"{self._url}: {e}") from e


class Tokens(NamedTuple):
    """Two API tokens of one bucket: `write` (and read) for central, `read` for Grafana. Shown once, never again."""

    write: str
    read: str


def setup_2x(url: str, admin_token: str, *, organisation: str, bucket: str, retention_days: int = 0) -> Tokens:
    """Make what InfluxDB 2.4 or later lacks: the organisation, the bucket, and two new tokens. 0 days keeps for ever.

    The bucket's name is the database's: 2.4 and later map it by themselves when it has no `/`. What exists is left as it
    is; each call makes new tokens, and older ones stay valid until someone deletes them. Raises as Store does.
    """
    from influxdb_client.client.influxdb_client import InfluxDBClient
    from influxdb_client.domain.authorization import Authorization
    from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
    from influxdb_client.domain.permission import Permission
    from influxdb_client.domain.permission_resource import PermissionResource
    from influxdb_client.rest import ApiException

    if "/" in bucket:
        raise NeedsPerson(f"bucket {bucket!r}: expected a name without /, which would be read as a retention policy")
    try:
        with InfluxDBClient(url, token=admin_token) as client:
            organisations = client.organizations_api()
            org = next((o for o in organisations.find_organizations(limit=100) if o.name == organisation), None)
            org = org or organisations.create_organization(name=organisation)
            buckets = client.buckets_api()
            found = next((b for b in buckets.find_buckets_iter(org=organisation) if b.name == bucket), None)
            if found is None:
                keep = [BucketRetentionRules(type="expire", every_seconds=retention_days * 86_400)]
                found = buckets.create_bucket(
                    bucket_name=bucket, org=org, retention_rules=keep if retention_days else []
                )
            resource = PermissionResource(type="buckets", id=found.id, org_id=org.id)

            def token(purpose: str, *actions: str) -> str:
                authorization = Authorization(
                    org_id=org.id,
                    description=f"maillages {purpose}",
                    permissions=[Permission(action=action, resource=resource) for action in actions],
                )
                made: str = client.authorizations_api().create_authorization(authorization=authorization).token
                return made

            return Tokens(token("central", "read", "write"), token("grafana", "read"))
    except ApiException as e:
        kind = Unavailable if e.status == 429 or (e.status or 0) >= 500 else NeedsPerson
        raise kind(f"{url} answers {e.status} {str(e.message)[:_REASON_LENGTH]}") from e
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise Unavailable(f"{url}: {e}") from e


def _error(answer: urllib3.BaseHTTPResponse, text: str) -> Unavailable | NeedsPerson:
    """The error for an answer that is about no single point: patience (408, 429, 5xx) or a person (all else)."""
    message = f"InfluxDB answers {answer.status} {text}"
    if answer.status in (408, 429) or answer.status >= 500:
        wish = answer.headers.get("Retry-After", "")
        return Unavailable(message, float(wish) if wish.isdecimal() else None)
    return NeedsPerson(message)


def _reason(answer: urllib3.BaseHTTPResponse) -> str:
    """What the body says: `error` (1.x; in 3.x beside `data`, one entry a bad line) or `message` (2.x), else its beginning."""
    text = answer.data.decode(errors="replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict):
        text = str(body.get("error") or body.get("message") or text)
        data = body.get("data")
        if isinstance(data, list) and data and isinstance(data[0], dict):
            text = f"{text}: {data[0].get('error_message', '')}"
    return text.strip()[:_REASON_LENGTH]


def _identifier(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _string(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _where(tags: Mapping[str, str], start_ms: int | None = None, end_ms: int | None = None) -> str:
    terms = [f"{_identifier(k)} = {_string(v)}" for k, v in sorted(tags.items())]
    if start_ms is not None:
        terms.append(f"time >= {start_ms}ms")
    if end_ms is not None:
        terms.append(f"time < {end_ms}ms")
    return " WHERE " + " AND ".join(terms) if terms else ""
