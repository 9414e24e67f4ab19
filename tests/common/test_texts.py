"""What a mayor reads: short enough for one SMS, right in place, value, unit, trend, threshold and local time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import gsm7, texts
from common.texts import Place
from wire.alarm import AlarmEvent
from wire.quantities import QUANTITIES

MOHA = Place("Moha", "Mehaigne")
BASE = {
    "id": "0197fd1e-0000-7000-8000-000000000001",
    "occurrence": "0197fd1e-0000-7000-8000-0000000a1b2c",
    "seq": 1,
    "source": "gateway",
    "gateway": "gw-huy-01",
    "station": "mehaigne-moha",
    "sensor": "level-1",
    "quantity": "water_level",
    "rule": "mehaigne-high",
    "kind": "high",
    "transition": "raise",
    "state": "UNACK",
    "level": 3,
    "value": 2.31,
    "unit": "m",
    "threshold": 2.2,
    "trend_per_h": 0.42,
    "time": "2026-07-14T18:05:00.000+02:00",
    "clock": "synchronised",
}
SILENT = {"value": None, "threshold": None, "trend_per_h": None}
RAISED_S = 1784030700.0  # 2026-07-14 14:05 in Belgium


def event(**changes) -> AlarmEvent:
    return AlarmEvent.model_validate(BASE | changes)


# fmt: off
SMS = {
    "level 3": ({}, ("HUY-WAREMME seuil local 3 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 18h05. Seuil 2,20 m. "
                    "Danger: 112. Réf A1B2C")),
    "level 1": ({"level": 1, "trend_per_h": None, "threshold": 1.0, "value": 1.004},
                "HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 1,00 m 14/07 18h05. Seuil 1,00 m. Réf A1B2C"),
    "zero is a value": ({"level": 1, "value": 0.0, "trend_per_h": 0.0, "threshold": 0.0},
                        "HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 0,00 m (+0,00 m/h) 14/07 18h05. Seuil 0,00 m. Réf A1B2C"),
    "exercise": ({"status": "Exercise", "level": 1},
                 "EXERCICE - HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 18h05. Seuil 2,20 m. Réf A1B2C"),
    "test": ({"status": "Test", "level": 1},
             "TEST - HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 18h05. Seuil 2,20 m. Réf A1B2C"),
    "rise": ({"kind": "rise", "level": 2, "threshold": 0.15},
             ("HUY-WAREMME montée rapide, seuil local 2. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 18h05. Seuil 0,15 m/h. "
             "Danger: 112. Réf A1B2C")),
    "stale": ({"kind": "stale", **SILENT},
              ("HUY-WAREMME PLUS DE MESURE (seuil local 3). Mehaigne, Moha: constaté 14/07 18h05. L'eau peut encore monter. "
              "Danger: 112. Réf A1B2C")),
    "comm_fail": ({"kind": "comm_fail", "level": 1, "quantity": None, "unit": None, **SILENT},
                  ("HUY-WAREMME CAPTEUR EN PANNE (seuil local 1). Mehaigne, Moha: constaté 14/07 18h05. "
 "L'eau peut encore monter. Réf A1B2C")),
    "data lost": ({"data_lost": True, "level": 1, "value": None},
                  ("HUY-WAREMME seuil local 1 atteint, puis PLUS DE MESURE. Mehaigne, Moha: constaté 14/07 18h05. "
                  "L'eau peut encore monter. Réf A1B2C")),
    "clear": ({"transition": "clear", "state": "RTN_UNACK", "level": 0, "value": 1.1, "trend_per_h": -0.2, "threshold": 1.2},
              "HUY-WAREMME retour sous le seuil local. Mehaigne, Moha: 1,10 m (-0,20 m/h) 14/07 18h05. Seuil 1,20 m. Réf A1B2C"),
    "measures again": ({"kind": "stale", "transition": "clear", "state": "NORMAL", "level": 0, **SILENT},
                       "HUY-WAREMME mesures revenues. Mehaigne, Moha: 14/07 18h05. Réf A1B2C"),
    "clock not set": ({"level": 1, "clock": "estimated"},
                      "HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/07 vers 18h05. Seuil 2,20 m. Réf A1B2C"),
    "winter time": ({"level": 1, "time": "2026-01-14T17:05:00.000+00:00"},
                    "HUY-WAREMME seuil local 1 atteint. Mehaigne, Moha: 2,31 m (+0,42 m/h) 14/01 18h05. Seuil 2,20 m. Réf A1B2C"),
}
# fmt: on


@pytest.mark.parametrize("case", SMS)
def test_the_sms_says_it_all_in_one_part(case):
    changes, expected = SMS[case]
    text = texts.sms(event(**changes), MOHA)
    assert text == expected
    assert gsm7.septets(text) <= gsm7.SINGLE


def test_a_late_message_says_since_when_and_that_it_is_over():
    text = texts.sms(event(level=1), MOHA, raised_s=RAISED_S, returned_s=RAISED_S + 5 * 3600)
    assert "Depuis 14h05. Repassé sous le seuil 19h05." in text
    assert "Depuis 13/07 14h05." in texts.sms(event(level=1), MOHA, raised_s=RAISED_S - 86400)


def test_the_river_is_not_said_twice_and_air_names_its_quantity():
    assert "Huy, pont du Hoyoux: 2,31" in texts.sms(event(), Place("Huy, pont du Hoyoux", "Hoyoux"))
    air = event(quantity="pm2_5", unit="ug/m3", value=87.12, threshold=35, trend_per_h=None, level=1)
    assert "PM2,5, Amay: 87,1 ug/m3 14/07 18h05. Seuil 35,0 ug/m3." in texts.sms(air, Place("Amay"))
    day = texts.sms(air.model_copy(update={"mean_h": 24}), Place("Amay"))
    assert "PM2,5 (moyenne 24 h, indicatif), Amay: 87,1 ug/m3" in day
    assert gsm7.septets(day) <= gsm7.SINGLE


@given(
    station=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40),
    river=st.none() | st.text(max_size=40),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    trend=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    level=st.integers(0, 3),
    kind=st.sampled_from(["high", "low", "rise", "fall", "stale", "comm_fail", "quality", "power", "system"]),
    transition=st.sampled_from(["raise", "escalate", "clear"]),
    quantity=st.none() | st.sampled_from(sorted(QUANTITIES)),
    status=st.sampled_from(["Actual", "Exercise", "Test"]),
    lost=st.booleans(),
    raised=st.none() | st.floats(0, 4e9),
)
def test_any_event_fits_three_parts_and_keeps_its_reference(
    station, river, value, trend, level, kind, transition, quantity, status, lost, raised
):
    e = event(
        value=value, trend_per_h=trend, threshold=value, level=level, kind=kind, transition=transition, status=status,
        quantity=quantity, unit=QUANTITIES[quantity].unit if quantity else None, data_lost=lost,
    )  # fmt: skip
    text = texts.sms(e, Place(station, river), raised_s=raised, returned_s=raised)
    assert gsm7.normalise(text) == text
    assert len(gsm7.split(text)) <= 3
    assert text.endswith("Réf A1B2C")
    assert text.startswith({"Actual": "HUY", "Exercise": "EXERCICE", "Test": "TEST"}[status])
    mail = texts.mail(e, Place(station, river), raised_s=raised, returned_s=raised)
    assert "\n" not in mail.subject
    assert "<script" not in mail.html.lower()


@given(level=st.integers(1, 3), value=st.floats(-1, 99), trend=st.floats(-9, 9))
def test_a_usual_river_fits_one_part(level, value, trend):
    e = event(level=level, value=value, threshold=value, trend_per_h=trend)
    assert gsm7.septets(texts.sms(e, Place("Huy, passerelle du Rivage", "Hoyoux"), raised_s=RAISED_S)) <= gsm7.SINGLE


def test_the_mail_says_what_is_known_what_is_not_and_how_to_answer():
    mail = texts.mail(
        event(next_level_at="2026-07-14T17:30:00.000+00:00"),
        MOHA,
        raised_s=RAISED_S,
        told=["Bourgmestre de Wanze"],
        ack_url="https://crues.example.be/ack/abc",
        next_step_s=RAISED_S + 4 * 3600 + 300,
    )
    assert mail.subject == "[HUY-WAREMME] seuil local 3 atteint - Mehaigne, Moha (14/07 18h05) - réf. A1B2C"
    for line in (
        "Quoi : Niveau d'eau, seuil local 3 atteint.",
        "Où : Mehaigne, Moha.",
        "Depuis : 14/07 14h05 (heure belge).",
        "Dernière valeur : 2,31 m (+0,42 m/h), mesurée 14/07 18h05.",
        "Seuil dépassé : 2,20 m.",
        "Au rythme actuel, le seuil local suivant serait atteint 14/07 19h30 (estimation).",
        "Aussi prévenus : Bourgmestre de Wanze.",
        "https://crues.example.be/ack/abc",
        "Sans réponse avant 14/07 18h10, l'alarme sera renvoyée et d'autres personnes seront prévenues.",
    ):
        assert line in mail.text.splitlines()
    assert "112" in mail.text
    assert "1722" in mail.text
    assert '<a href="https://crues.example.be/ack/abc">' in mail.html


def test_loss_of_measurement_is_never_told_as_an_end():
    mail = texts.mail(event(kind="stale", **SILENT), MOHA)
    assert "Cela ne veut pas dire que l'eau baisse." in mail.text


def test_nothing_is_said_in_the_name_of_an_authority():
    said = texts._catalogue()
    flat = repr(said).lower()
    assert "be-alert" not in flat
    assert not re.search(r"phase d.alerte|pré-alerte|alerte de crue", flat)


def test_the_html_escapes_what_names_hold():
    assert "&lt;b&gt;" in texts.mail(event(), Place("<b>")).html


def test_a_digest_lists_what_was_over():
    mail = texts.digest([(event(), MOHA, RAISED_S), (event(status="Test"), None, RAISED_S)])
    assert "- 14/07 14h05 : seuil local 3 atteint, Mehaigne, Moha. Réf. A1B2C" in mail.text.splitlines()
    assert "TEST - seuil local 3 atteint" in mail.text
    assert mail.subject == "[HUY-WAREMME] Alarmes déjà terminées, reçues en retard"


def test_a_shelving_says_who_until_when_and_why():
    shelved = event(
        transition="shelve",
        by="M. Dupont",
        until="2026-07-14T22:30:00+02:00",
        note="travaux\nau pont",
        withheld="shelved",
    )
    said = texts.transition(shelved)
    assert said.startswith("mise en veille par M. Dupont jusqu'au 14/07 22h30, motif : travaux au pont (")
    assert "jusqu'au bientôt" in texts.transition(shelved.model_copy(update={"until": "bientôt"})), "as it came"
    back = event(transition="unshelve", by="Mme Leroy")
    assert texts.transition(back).startswith("fin de la mise en veille par Mme Leroy (")
    assert texts.transition(event(transition="unshelve")).startswith("fin de la mise en veille (")


def test_what_has_returned_is_at_no_level():
    assert texts.headline(event(transition="ack", state="RTN_UNACK", level=0)) == "retour sous le seuil local"
    assert texts.headline(event(transition="reset", state="NORMAL", level=0)) == "retour sous le seuil local"
