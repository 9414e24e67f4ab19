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
from contextlib import contextmanager
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

    # Setting up

    def version(self) -> str:
        """What it says that it is, as "1.6.7" or "v2.7.12"; empty when it does not say."""
        return self._request("GET", f"{self._url}/ping").headers.get("X-Influxdb-Version", "")

    def execute(self, statement: str) -> list[dict[str, Any]]:
        """The series of the answer to one statement of InfluxQL. Raises as Store does."""
        return self._query(statement)

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
    """Make what InfluxDB 2.4 or later lacks (`ensure_2x`), and two new tokens; older ones stay valid until someone deletes them.
    Raises as Store does."""
    from influxdb_client.domain.authorization import Authorization
    from influxdb_client.domain.permission import Permission
    from influxdb_client.domain.permission_resource import PermissionResource

    ensure_2x(url, admin_token, organisation=organisation, bucket=bucket, retention_days=retention_days)
    with _managing(url, admin_token) as client:
        org, found = _found_2x(client, organisation, bucket)
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


def ensure_2x(url: str, admin_token: str, *, organisation: str, bucket: str, retention_days: int = 0) -> list[str]:
    """Make the organisation and the bucket where they are missing; 0 days keeps for ever. What was made, and what is there and
    differs: that is left as it is.

    The bucket's name is the database's: 2.4 and later map it by themselves when it has no `/`. Raises as Store does.
    """
    from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules

    if "/" in bucket:
        raise NeedsPerson(f"bucket {bucket!r}: expected a name without /, which would be read as a retention policy")
    said = []
    with _managing(url, admin_token) as client:
        org, found = _found_2x(client, organisation, bucket)
        if org is None:
            org = client.organizations_api().create_organization(name=organisation)
            said.append(f"organisation {organisation}: made")
        keep_s = retention_days * 86_400
        if found is None:
            keep = [BucketRetentionRules(type="expire", every_seconds=keep_s)] if keep_s else []
            client.buckets_api().create_bucket(bucket_name=bucket, org=org, retention_rules=keep)
            said.append(f"bucket {bucket}: made, keeps {_kept(keep_s)}")
        else:
            kept_s = next((rule.every_seconds for rule in found.retention_rules or []), 0)
            if kept_s != keep_s:
                said.append(
                    f"bucket {bucket}: DIFFERS: it keeps {_kept(kept_s)}, asked was {_kept(keep_s)}; left as it is"
                )
    return said


def _kept(seconds: float) -> str:
    return f"{seconds / 86_400:g} days" if seconds else "for ever"


def _found_2x(client: Any, organisation: str, bucket: str) -> tuple[Any, Any]:
    """The organisation and its bucket, None where there is none."""
    org = next((o for o in client.organizations_api().find_organizations(limit=100) if o.name == organisation), None)
    if org is None:
        return None, None
    found = client.buckets_api().find_buckets_iter(org=organisation)
    return org, next((b for b in found if b.name == bucket), None)


@contextmanager
def _managing(url: str, admin_token: str) -> Iterator[Any]:
    """The management API of 2.x, with its errors as central's."""
    from influxdb_client.client.influxdb_client import InfluxDBClient
    from influxdb_client.rest import ApiException

    try:
        with InfluxDBClient(url, token=admin_token) as client:
            yield client
    except ApiException as e:
        kind = Unavailable if e.status == 429 or (e.status or 0) >= 500 else NeedsPerson
        raise kind(f"{url} answers {e.status} {str(e.message)[:_REASON_LENGTH]}") from e
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise Unavailable(f"{url}: {e}") from e


def ensure_1x(
    url: str, admin: tuple[str, str] | None, *, database: str, retention_days: int, users: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Make on InfluxDB 1.x the database, its default retention (0 days: for ever) and the users: name -> password and `ALL` or
    `READ`. A user that exists gets this password. What was made or differs; a retention that differs is left as it is.

    Raises as Store does.
    """
    server, said = Influx(url, database, *(admin or ())), []
    duration = f"{retention_days}d" if retention_days else "INF"
    name = _identifier(database)
    try:
        ask = server.execute
        if database not in {row[0] for s in ask("SHOW DATABASES") for row in s["values"]}:
            ask(f"CREATE DATABASE {name} WITH DURATION {duration} REPLICATION 1 NAME {_identifier('autogen')}")
            said.append(f"database {database}: made, keeps {_kept(retention_days * 86_400)}")
        else:
            for series in ask(f"SHOW RETENTION POLICIES ON {name}"):
                for row in series["values"]:
                    policy = dict(zip(series["columns"], row, strict=True))
                    text = str(policy["duration"])  # "720h0m0s"; "0s": for ever
                    hours = int(text.partition("h")[0]) if "h" in text else 0
                    if policy["default"] and hours != retention_days * 24:
                        said.append(
                            f"database {database}: DIFFERS: it keeps {_kept(hours * 3600)},"
                            f" asked was {_kept(retention_days * 86_400)}; left as it is"
                        )
        known = {row[0] for s in ask("SHOW USERS") for row in s["values"]}
        for user, (password, right) in users.items():
            if user in known:
                ask(f"SET PASSWORD FOR {_identifier(user)} = {_string(password)}")
            else:
                ask(f"CREATE USER {_identifier(user)} WITH PASSWORD {_string(password)}")
                said.append(f"user {user}: made, {right} on {database}")
            ask(f"GRANT {right} ON {name} TO {_identifier(user)}")
    finally:
        server.close()
    return said


def version(url: str) -> str:
    """What the server says that it is (`X-Influxdb-Version`), without the v. Raises Unavailable; NeedsPerson when it says nothing."""
    server = Influx(url, "")
    try:
        found = server.version()
    finally:
        server.close()
    if not found:
        raise NeedsPerson(f"{url}/ping does not say a version, expected InfluxDB 1.x or 2.x")
    return found.removeprefix("v")


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
