"""What falls silent together is told in one message, answered once, and hides nothing that falls silent later."""

import hypothesis.strategies as st
from hypothesis import given, settings

from central.alarms.silence import RULE
from central.config import GATEWAYS_SILENT, STATIONS_SILENT, CentralConfig, Station
from central.notify.storms import GATEWAYS_S, JOIN_S, STATIONS_S, told_by
from common.clock import rfc3339
from tests.central.test_notify import (
    PLANU,
    T0,
    Central,
    Hands,
    config,
    event,
    link,
    settled,
    sms,  # noqa: F401 - a fixture
    smtp,  # noqa: F401 - a fixture
    start,  # noqa: F401 - a fixture
    until,
)
from tests.fakes.providers import SmtpServer
from wire.alarm import AlarmEvent
from wire.ids import uuid7

AMAY = "planu@amay.test"
OCCURRENCES = [uuid7(T0 + i) for i in range(40)]
SILENT = {"kind": "stale", "level": 1, "value": None, "threshold": None}


def fleet(cfg: CentralConfig, gateways: int = 1, stations: int = 30) -> CentralConfig:
    """With so many gateways, each with its stations; the gateways stand in Huy and Amay by turns."""
    made = [
        {"id": f"s-{g}-{i}", "gateway": f"gw-{g}", "commune": ("61031", "61003")[g % 2], "name": f"Pont {i}"}
        for g in range(gateways)
        for i in range(stations)
    ]
    return cfg.model_copy(update={"station": tuple(Station.model_validate(m) for m in made)})


def stale(i: int, transition: str = "raise", state: str = "UNACK", seq: int = 0, **changes: object) -> AlarmEvent:
    """Station `i` of gateway 0 falls silent, or what follows."""
    facts = {"gateway": "gw-0", "station": f"s-0-{i}", "rule": f"stale-{i}", "occurrence": OCCURRENCES[i]}
    made: AlarmEvent = event(
        seq or i + 1, transition, state, **(SILENT | facts | {"id": uuid7(T0 + 1e5 + i + seq * 1e3)} | changes)
    )
    return made


def now(central: Central, made: AlarmEvent) -> AlarmEvent:
    return made.model_copy(update={"time": rfc3339(central.hands.clock.wall())})


def after(central: Central, seconds: float) -> None:
    """What has come is planned; then so much time goes by, and what is due is done."""
    settled(central)
    central.move(seconds)
    settled(central)


def subjects(smtp, to=PLANU):  # noqa: F811
    return [" ".join(str(m["Subject"]).split()) for m in smtp.to(to)]


def test_many_stations_of_one_gateway_are_one_message_and_one_answer(tmp_path, start, smtp, sms):  # noqa: F811
    central = start(fleet(config(tmp_path, smtp, [sms]), stations=12))
    raised = [stale(i) for i in range(12)]
    central.arrive(*raised)
    settled(central)
    assert subjects(smtp) == [], "it waits for others"
    central.restart()
    after(central, STATIONS_S)
    until(lambda: len(subjects(smtp)) == 1, changed=smtp.changed)
    assert "12 STATIONS MUETTES - passerelle gw-0 (Pont 0 / Pont 1 / +10)" in subjects(smtp)[0]
    (text,) = sms.to("+32470000001")
    assert text.startswith("HUY-WAREMME 12 STATIONS MUETTES. passerelle gw-0 (Pont 0 / Pont 1 / +10): constaté")
    until(
        lambda: {tuple(central.saw(e.id)) for e in raised} == {("true",)},
        "no gateway sends its own SMS",
        central.changed,
    )
    body = smtp.to(PLANU)[0].get_body(("plain",)).get_content()
    assert "Dernière valeur" not in body
    assert "ne mesurent plus, ensemble" in body
    assert central.notifier.acknowledge_by_token(link(smtp.to(PLANU)[0])).by == "Planu Huy"
    assert len(central.acks[-1]) == 12, "each is acknowledged at its gateway"
    after(central, 10_000)
    until(lambda: len(subjects(smtp)) == 1, changed=smtp.changed)
    for i in range(12):
        central.arrive(now(central, stale(i, "ack", "ACK", 100 + i, by="Planu Huy")))
        central.arrive(now(central, stale(i, "clear", "NORMAL", 200 + i, level=0)))
    until(lambda: len(subjects(smtp)) == 2, changed=smtp.changed)
    assert "stations de nouveau entendues" in subjects(smtp)[1]
    assert central.alarms.impossible_events() == {}


def test_two_are_told_each_and_a_station_that_falls_silent_later_too(tmp_path, start, smtp):  # noqa: F811
    central = start(fleet(config(tmp_path, smtp)))
    central.arrive(stale(0), stale(1))
    after(central, STATIONS_S)
    assert sorted(s.partition(" - ")[0] for s in subjects(smtp)) == ["[HUY-WAREMME] PLUS DE MESURE (seuil local 1)"] * 2
    central.arrive(*(now(central, stale(i)) for i in range(2, 6)))
    after(central, STATIONS_S)
    until(lambda: len(subjects(smtp)) == 3, changed=smtp.changed)
    central.arrive(now(central, stale(6)))
    after(central, STATIONS_S)
    until(lambda: len(subjects(smtp)) == 3, changed=smtp.changed)
    assert len(told_by(central.db, OCCURRENCES)) == 5
    central.arrive(now(central, stale(7, level=3)))
    after(central, STATIONS_S)
    assert "PLUS DE MESURE (seuil local 3)" in subjects(smtp)[3], "what is worse is told by itself"
    after(central, JOIN_S)
    last = now(central, stale(8))
    central.arrive(last)
    after(central, STATIONS_S)
    assert "PLUS DE MESURE" in subjects(smtp)[-1], "nothing hides behind an old storm"
    until(lambda: central.saw(last.id) == ["true"], changed=central.changed)


def test_gateways_that_are_cut_off_together_are_one_message_to_all_their_communes(tmp_path, start, smtp):  # noqa: F811
    central = start(fleet(config(tmp_path, smtp), gateways=12, stations=1))
    raised = [central.own.begin(f"gw-{g}", RULE, "comm_fail", 1).occurrence for g in range(12)]
    after(central, GATEWAYS_S)
    for to in (PLANU, AMAY):
        assert len(subjects(smtp, to)) == 1
        assert "12 PASSERELLES MUETTES - plusieurs passerelles (Amay / Huy)" in subjects(smtp, to)[0]
    (storm,) = central.own.open(GATEWAYS_SILENT)
    central.notifier.acknowledge(storm.occurrence, "Planu")
    central.own.keep()
    assert {o.state for o in central.own.open(RULE)} == {"ACK"}
    for occurrence in raised:
        known = central.alarms.occurrence(occurrence)
        central.own.end(known)
    until(lambda: len(subjects(smtp)) == 2, changed=smtp.changed)
    assert "passerelles de nouveau entendues" in subjects(smtp)[-1]
    assert central.own.open(GATEWAYS_SILENT) == []
    assert central.alarms.impossible_events() == {}


def test_when_nobody_can_be_told_each_gateway_hears_so(tmp_path, start, smtp):  # noqa: F811
    smtp.refuse.add(PLANU)
    smtp.refuse.add("bourgmestre@huy.test")
    central = start(fleet(config(tmp_path, smtp)))
    raised = [stale(i) for i in range(3)]
    central.arrive(*raised)
    after(central, STATIONS_S)
    until(lambda: {tuple(central.saw(e.id)) for e in raised} == {("false",)}, changed=central.changed)


def test_a_level_never_waits(tmp_path, start, smtp):  # noqa: F811
    central = start(fleet(config(tmp_path, smtp)))
    central.arrive(
        *(event(i + 1, gateway="gw-0", station=f"s-0-{i}", rule=f"r-{i}", occurrence=uuid7(T0 + i)) for i in range(4))
    )
    settled(central)
    until(lambda: len(subjects(smtp)) == 4, changed=smtp.changed)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from([0, 5, 20, 700])), min_size=1, max_size=12))
@settings(max_examples=6, deadline=None)
def test_whatever_falls_silent_is_told_or_in_a_storm_that_is(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("storm")
    with SmtpServer() as server:
        central = Central(path / "central.db", fleet(config(path, server)), Hands())
        silent, seq = set(), 0
        for i, falls, pause_s in steps:
            if falls == (i in silent):
                continue
            seq += 1
            made = stale(i, *(("raise", "UNACK") if falls else ("clear", "RTN_UNACK")), seq=seq, level=int(falls))
            central.arrive(now(central, made))
            (silent.add if falls else silent.discard)(i)
            after(central, pause_s)
        after(central, STATIONS_S)
        told = {m["Subject"] for _, m in server.mails}
        storms = {o.occurrence for o in central.own.open(STATIONS_SILENT)}
        for i in silent:
            occurrence = central.alarms.occurrence(OCCURRENCES[i])
            own = any(occurrence.occurrence[-5:].upper() in s for s in told)
            storm = told_by(central.db, OCCURRENCES).get(occurrence.occurrence)
            assert own or (storm in storms and any(storm[-5:].upper() in s for s in told)), (i, steps)
        assert central.alarms.impossible_events() == {}
        central.close()
