"""Accounts, sessions and tokens over real HTTP: who sees, who acknowledges, who is shut out."""

import contextlib
import http.client
import logging
import re
import ssl
import subprocess
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from central.accounts import ABSOLUTE_S, IDLE_S, Accounts
from central.alarms.own import Own
from central.cli import app
from central.config import GATEWAY_SILENT, CentralConfig
from central.db import Database
from central.errors import Refused
from central.notify.recipients import ACCESS_LOG
from central.web.app import BURST, COOKIE, FREE_TRIES, LOGIN_COOKIE
from common.clock import Clock
from tests import servers
from tests.central.scene import HUY, Scene

CLOCK = Clock(trust="always")
PASSWORD = "une phrase assez longue"  # noqa: S105
FORM = {"Content_Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Scene(tmp_path_factory.mktemp("accounts"), CLOCK, open_reading=False)
    with contextlib.closing(made):
        made.start()
        made.gateway(HUY)
        made.accounts.add("vera", "viewer", PASSWORD)
        made.accounts.add("omer", "operator", PASSWORD)
        yield made


def cookie(answer, name):
    return re.search(rf"{name}=([^;]+)", answer.headers["set-cookie"])[1]


def sign_in(scene, name, password=PASSWORD, address="192.0.2.1"):
    """The answer to the filled-in form, as a browser behind a proxy sends it."""
    csrf = cookie(scene.get("/connexion"), LOGIN_COOKIE)
    body = urlencode({"name": name, "password": password, "csrf": csrf}).encode()
    return scene.ask("POST", "/connexion", body, Cookie=f"{LOGIN_COOKIE}={csrf}", X_Forwarded_For=address, **FORM)


def signed_in(scene, name):
    answer = sign_in(scene, name)
    assert answer.status == 303, answer.text
    return {"Cookie": f"{COOKIE}={cookie(answer, COOKIE)}"}


def test_without_an_account_nothing_is_shown_but_the_way_in(scene):
    for path in ("/", "/alarmes"):
        answer = scene.get(path)
        assert (answer.status, answer.headers["location"]) == (303, "/connexion")
    assert scene.get("/events").status == 401
    assert scene.get("/api/stations").status == 401
    assert scene.get("/api/stations").headers["content-type"] == "application/problem+json"
    assert 'type="password"' in scene.get("/connexion").text
    assert scene.get("/healthz").status == 200


def test_the_cookie_is_for_https_and_for_no_script(scene):
    given = sign_in(scene, "vera").headers["set-cookie"].lower()
    for word in ("secure", "httponly", "samesite=strict", "path=/"):
        assert word in given


def test_a_viewer_sees_and_an_operator_acknowledges(scene):
    event = scene.event("hoyoux-huy", "raise", "UNACK", 3, 5, value=1.3)
    path = f"/alarmes/{event.occurrence}"
    viewer, operator = signed_in(scene, "vera"), signed_in(scene, "omer")
    assert path not in scene.ask("GET", "/alarmes", **viewer).text
    seen = scene.ask("GET", "/alarmes", **viewer).text
    csrf = re.search(r'name="csrf" value="([^"]+)"', seen)[1]
    assert scene.ask("POST", path, urlencode({"csrf": csrf}).encode(), **viewer, **FORM).status == 403
    html = scene.ask("GET", "/alarmes", **operator).text
    assert path in html
    csrf = re.search(r'name="csrf" value="([^"]+)"', html)[1]
    assert scene.ask("POST", path, b"note=x", **operator, **FORM).status == 403, "no token"
    assert scene.ask("POST", path, b"csrf=" + csrf.encode()).status == 401, "no session"
    assert scene.alarms.occurrence(event.occurrence).acked_by is None
    body = urlencode({"csrf": csrf, "note": "j'y vais"}).encode()
    assert scene.ask("POST", path, body, **operator, **FORM).status == 303
    assert scene.alarms.occurrence(event.occurrence).acked_by == "omer (j'y vais)"
    assert "omer page of the alarms" in (scene.path / ACCESS_LOG).read_text()


def test_an_operator_shelves_for_a_reason_and_ends_it(scene):
    own = Own(scene.alarms, scene.wishes, CLOCK, lambda: None)
    occurrence = own.begin(HUY, GATEWAY_SILENT, "comm_fail", 1).occurrence
    path = f"/alarmes/{occurrence}"
    viewer, operator = signed_in(scene, "vera"), signed_in(scene, "omer")
    assert f"{path}/veille" not in scene.ask("GET", "/alarmes", **viewer).text
    html = scene.ask("GET", "/alarmes", **operator).text
    assert f"{path}/veille" in html
    assert f"{path}/fin-de-veille" not in html
    csrf = re.search(r'name="csrf" value="([^"]+)"', html)[1]

    def post(where, session=operator, **form):
        return scene.ask("POST", where, urlencode({"csrf": csrf} | form).encode(), **session, **FORM).status

    wish = {"until": "2h", "why": "travaux <au> pont"}
    assert post(f"{path}/veille", viewer, **wish) == 403
    assert post(f"{path}/veille", {}, **wish) == 401
    assert post(f"{path}/veille", csrf="x", **wish) == 403
    assert post(f"{path}/veille", until="2h", why=" ") == 400
    assert post(f"{path}/veille", until="soon", why="x") == 400
    assert post(f"{path}/veille", until="25h", why="x") == 409
    assert post("/alarmes/nothing/veille", **wish) == 404
    assert post(f"{path}/fin-de-veille") == 409
    assert scene.wishes.asked() == {}
    assert post(f"{path}/veille", **wish) == 303
    assert "mise en veille demandée" in scene.ask("GET", "/alarmes", **viewer).text
    own.keep()
    page = scene.ask("GET", "/alarmes", **viewer).text
    assert "mise en veille demandée" not in page
    assert "motif : travaux &lt;au&gt; pont" in page
    assert "par omer" in page
    assert scene.alarms.events(occurrence)[-1].withheld == "shelved"
    assert post(f"{path}/fin-de-veille") == 303
    own.keep()
    assert scene.alarms.events(occurrence)[-1].by == "omer"
    assert scene.alarms.events(occurrence)[-1].withheld is None


def test_a_gateway_that_gets_no_commands_cannot_be_asked_to_shelve(scene):
    event = scene.event("meuse-amay", "raise", "UNACK", 1, 5, value=2.6)
    operator = signed_in(scene, "omer")
    html = scene.ask("GET", "/alarmes", **operator).text
    assert f"/alarmes/{event.occurrence}/veille" not in html
    csrf = re.search(r'name="csrf" value="([^"]+)"', html)[1]
    body = urlencode({"csrf": csrf, "until": "1h", "why": "x"}).encode()
    answer = scene.ask("POST", f"/alarmes/{event.occurrence}/veille", body, **operator, **FORM)
    assert answer.status == 409
    assert "ne reçoit pas de commandes" in answer.text


def test_who_signs_out_is_out(scene):
    session = signed_in(scene, "vera")
    html = scene.ask("GET", "/", **session).text
    csrf = re.search(r'name="csrf" value="([^"]+)"', html)[1]
    assert scene.ask("POST", "/deconnexion", b"csrf=x", **session, **FORM).status == 403
    assert scene.ask("POST", "/deconnexion", urlencode({"csrf": csrf}).encode(), **session, **FORM).status == 303
    assert scene.ask("GET", "/", **session).status == 303


def test_an_address_that_guesses_waits_and_another_does_not(scene):
    for _ in range(FREE_TRIES):
        assert sign_in(scene, "vera", "wrong wrong wrong", "198.51.100.7").status == 401
    late = sign_in(scene, "vera", PASSWORD, "198.51.100.7")
    assert late.status == 429
    assert int(late.headers["retry-after"]) > 0
    assert sign_in(scene, "vera", PASSWORD, "198.51.100.8").status == 303


def test_a_token_reads_until_it_is_revoked_and_not_without_measure(scene):
    identifier, secret = scene.accounts.add_token("read", 1)
    _, other = scene.accounts.add_token("webhook", 1)
    assert scene.ask("GET", "/api/alarms", Authorization=f"Bearer {secret}").status == 200
    assert scene.ask("GET", "/api/alarms", Authorization=f"Bearer {other}").status == 401
    answers = [scene.ask("GET", "/api/stations", Authorization=f"Bearer {secret}") for _ in range(BURST + 20)]
    assert answers[0].status == 200
    refused = [a for a in answers if a.status == 429]
    assert refused
    assert "retry-after" in refused[0].headers
    scene.accounts.revoke_token(identifier)
    assert scene.ask("GET", "/api/stations", Authorization=f"Bearer {secret}").status == 401


def test_a_series_is_read_and_what_cannot_be_read_is_named(scene):
    scene.measure("hoyoux-huy/level-1/water_level", lambda _: 0.3, from_s=600)
    bearer = {"Authorization": f"Bearer {scene.accounts.add_token('read', 1)[1]}"}
    path = "/api/series?station=hoyoux-huy&quantity=water_level&hours="
    found = scene.ask("GET", path + "1", **bearer).json
    assert (len(found["values"]), found["unit"], found["values"][0][1]) == (10, "m", 0.3)
    for hours in ("0", "nan", "x", "1e9"):
        refused = scene.ask("GET", path + hours, **bearer)
        assert refused.status == 400
        assert "hours: expected" in refused.json["detail"]
    assert scene.ask("GET", "/api/series?station=x&quantity=water_level", **bearer).status == 404


def test_no_secret_is_logged(scene, caplog):
    with caplog.at_level(logging.DEBUG):
        session = signed_in(scene, "vera")["Cookie"]
        sign_in(scene, "vera", "not the right one", "203.0.113.5")
        _, secret = scene.accounts.add_token("read", 1)
        scene.ask("GET", "/api/stations", Authorization=f"Bearer {secret}")
    for hidden in (PASSWORD, "not the right one", secret, session.partition("=")[2]):
        assert hidden not in caplog.text
    assert "vera signed in" in caplog.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(
        [
            "/alarmes/x/veille",
            "/alarmes/x/fin-de-veille",
            "/sms/x",
            "/connexion",
            "/deconnexion",
            "/alarmes/x",
            "/api/stations",
            "/api/series",
            "/events",
        ]
    ),
    tail=st.text(max_size=40),
    method=st.sampled_from(["GET", "POST"]),
    body=st.binary(max_size=6000),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60),
)
def test_whatever_is_sent_gets_a_clear_refusal(scene, path, tail, method, body, secret):
    credentials = {"Cookie": f"{COOKIE}={secret}; {LOGIN_COOKIE}={secret}", "Authorization": f"Bearer {secret}"}
    headers = {k: v.encode("latin-1") for k, v in credentials.items()}
    answer = scene.ask(method, f"{path}?{quote(tail)}", body if method == "POST" else None, **headers, **FORM)
    assert answer.status in (200, 303, 400, 401, 403, 404, 405, 413, 429)


# ---------------------------------------------------------------------- on both databases


def test_sessions_end(state_at, open_state):
    hands = {"s": 1_700_000_000.0}
    accounts = Accounts(open_state(state_at), Clock(walltime=lambda: hands["s"], trust="always"))
    accounts.add("vera", "viewer", PASSWORD)
    assert accounts.sign_in("vera", "wrong") is None
    assert accounts.sign_in("nobody", PASSWORD) is None
    first = accounts.sign_in("vera", PASSWORD)
    hands["s"] += IDLE_S - 1
    assert accounts.session(first).role == "viewer"
    hands["s"] += IDLE_S + 1
    assert accounts.session(first) is None, "idle"
    second, began = accounts.sign_in("vera", PASSWORD), hands["s"]
    while hands["s"] < began + ABSOLUTE_S:
        assert accounts.session(second)
        hands["s"] += IDLE_S / 2
    hands["s"] += 1
    assert accounts.session(second) is None, "at its absolute end"
    third = accounts.sign_in("vera", PASSWORD)
    accounts.disable("vera")
    assert accounts.session(third) is None
    assert accounts.sign_in("vera", PASSWORD) is None
    with pytest.raises(Refused, match="12 to 200"):
        accounts.set_password("vera", "short")


def test_plain_http_stays_on_loopback():
    base = {"data_dir": "/x", "mqtt": {"host": "x"}}
    with pytest.raises(ValueError, match="plain HTTP"):
        CentralConfig.model_validate(base | {"web": {"host": "0.0.0.0"}})
    CentralConfig.model_validate(base | {"web": {"host": "0.0.0.0", "plain_http": True}})


# ---------------------------------------------------------------------- HTTPS, and the commands


@pytest.mark.system
def test_https_by_the_process_itself(tmp_path):
    key, cert, port = tmp_path / "page.key", tmp_path / "page.pem", servers.free_port()
    name = ["-subj", "/CN=page", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*make, "-keyout", key, "-out", cert, *name], check=True, capture_output=True)
    web = {"port": port, "public_url": f"https://127.0.0.1:{port}", "tls": {"cert": str(cert), "key": str(key)}}
    made = Scene(tmp_path, CLOCK, port=port, settings={"web": web})
    with contextlib.closing(made):
        made.start()
        context = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        with contextlib.closing(connection):
            connection.request("GET", "/connexion")
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.getheader("strict-transport-security") == "max-age=31536000"


def test_an_administrator_makes_accounts_and_tokens_by_command(tmp_path):
    config = tmp_path / "central.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n[mqtt]\nhost = "127.0.0.1"\n')
    db = Database(tmp_path / "central.db")
    db.open()
    accounts = Accounts(db, CLOCK)

    def run(*arguments, stdin=None):
        done = CliRunner().invoke(app, [*arguments, "-c", str(config)], input=stdin)
        return done.exit_code, done.output

    with contextlib.closing(db):
        assert run("user", "add", "omer", "--role", "operator", "--password-stdin", stdin="short\n")[0] == 2
        assert run("user", "add", "omer", "--role", "king", "--password-stdin", stdin=PASSWORD + "\n")[0] == 2
        assert run("user", "add", "omer", "--role", "operator", "--password-stdin", stdin=PASSWORD + "\n")[0] == 0
        session = accounts.sign_in("omer", PASSWORD)
        assert "operator" in run("user", "list")[1]
        assert run("user", "role", "omer", "viewer")[0] == 0
        assert accounts.session(session) is None, "signed out with its old rights"
        assert run("user", "disable", "nobody")[0] == 2
        assert run("user", "disable", "omer")[0] == 0
        assert accounts.sign_in("omer", PASSWORD) is None
        assert run("user", "disable", "omer", "--undo")[0] == 0
        assert accounts.sign_in("omer", PASSWORD)
        _, said = run("token", "add", "--scope", "read", "--days", "2")
        assert accounts.token(said.splitlines()[-1], "read")
        assert said.splitlines()[-1] not in run("token", "list")[1]
