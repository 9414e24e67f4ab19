"""The mail: what it says, in both of its parts, and that it looks right on a phone."""

from hypothesis import given
from hypothesis import strategies as st

from central.notify.mail import digest, draft, flood, mail
from common import gsm7
from common.texts import Place
from tests.common.test_texts import MOHA, RAISED_S, SILENT, event


def test_the_mail_says_what_is_known_what_is_not_and_how_to_answer():
    made = mail(
        event(level=2, next_level_at="2026-07-14T17:30:00.000+00:00"),
        MOHA,
        raised_s=RAISED_S,
        told=["Bourgmestre de Wanze"],
        ack_url="https://crues.example.be/ack/abc",
        next_step_s=RAISED_S + 4 * 3600 + 300,
    )
    assert made.subject == "[HUY-WAREMME] seuil local 2 atteint - Mehaigne, Moha (14/07 18h05) - réf. A1B2C"
    for line in (
        "Quoi : Niveau d'eau, seuil local 2 atteint.",
        "Où : Mehaigne, Moha.",
        "Depuis : 14/07 14h05 (heure belge).",
        "Dernière valeur : 2,31 m (+0,42 m/h), mesurée 14/07 18h05.",
        "Seuil dépassé : 2,20 m.",
        "Au rythme actuel, le seuil local 3 serait atteint 14/07 19h30 (estimation).",
        "Aussi prévenus : Bourgmestre de Wanze.",
        "https://crues.example.be/ack/abc",
        "Sans réponse avant 14/07 18h10, l'alarme sera renvoyée et d'autres personnes seront prévenues.",
    ):
        assert line in made.text.splitlines()
    assert "112" in made.text
    assert "1722" in made.text
    assert '<a href="https://crues.example.be/ack/abc"' in made.html


def test_loss_of_measurement_is_never_told_as_an_end():
    made = mail(event(kind="stale", **SILENT), MOHA)
    assert "Cela ne veut pas dire que l'eau baisse." in made.text


def test_the_html_escapes_what_names_hold():
    assert "&lt;b&gt;" in mail(event(), Place("<b>")).html


def test_a_digest_lists_what_was_over():
    made = digest([(event(), MOHA, RAISED_S), (event(status="Test"), None, RAISED_S)])
    assert "- 14/07 14h05 : seuil local 3 atteint, Mehaigne, Moha. Réf. A1B2C" in made.text.splitlines()
    assert "TEST - seuil local 3 atteint" in made.text
    assert made.subject == "[HUY-WAREMME] Alarmes déjà terminées, reçues en retard"


@given(
    name=st.text(min_size=1, max_size=60), level=st.integers(0, 3), language=st.sampled_from(["fr", "nl", "de", "en"])
)
def test_both_parts_of_any_mail_say_the_same_and_run_nothing(name, level, language):
    e = event(level=level, status="Exercise", clock="estimated")
    made = mail(e, Place(name, "Hoyoux"), ack_url="https://x.be/ack/1", language=language, draft_for="Huy")
    assert "\n" not in made.subject
    assert "<script" not in made.html.lower()
    assert "http-equiv" not in made.html
    assert made.html.count("https://x.be/ack/1") == 3  # the button, and the link for whom it does not work
    assert "112" in made.text
    assert "https://x.be/ack/1" in made.text.splitlines()
    assert made.subject.startswith({"fr": "EXERCICE", "nl": "OEFENING", "de": "ÜBUNG", "en": "EXERCISE"}[language])


COMMUNES = ["Huy", "Saint-Georges-sur-Meuse", "Fexhe-le-Haut-Clocher"]


@given(
    station=st.text("abcdé ,", min_size=12, max_size=60),
    commune=st.sampled_from(COMMUNES),
    kind=st.sampled_from(["high", "rise"]),
    status=st.sampled_from(["Actual", "Exercise", "Test"]),
    quantity=st.sampled_from(["water_level", "pm2_5"]),
    language=st.sampled_from(["fr", "nl", "de", "en"]),
)
def test_a_draft_fits_one_message_of_160(station, commune, kind, status, quantity, language):
    text = draft(event(kind=kind, status=status, quantity=quantity), Place(station, "Hoyoux"), commune, language)
    if quantity == "pm2_5" and kind == "rise":
        assert text is None
        return
    assert gsm7.septets(gsm7.normalise(text)) <= gsm7.SINGLE
    assert commune in text
    assert "112" in text
    assert status == "Actual" or text.startswith(("EXERCI", "OEFENING", "ÜBUNG", "TEST"))


def test_the_draft_is_marked_as_one_and_stands_only_where_there_is_something_to_tell():
    made = mail(event(), Place("Huy, pont du Hoyoux", "Hoyoux"), draft_for="Huy")
    assert "PROJET de message à la population (BE-Alert) - NON ENVOYÉ" in made.text.splitlines()
    assert (
        "Huy: crue à Huy, pont du Hoyoux à 18h05. Éloignez-vous de l'eau, quittez les caves. Urgence: 112."
    ) in made.text.splitlines()
    for quiet in (
        event(level=1), event(transition="clear", level=0), event(kind="stale", **SILENT), event(data_lost=True),
        event(kind="low"), event(quantity="battery_voltage"),
    ):  # fmt: skip
        assert "PROJET" not in mail(quiet, MOHA, draft_for="Huy").text
    assert "PROJET" not in mail(event(), MOHA).text


def test_a_flood_lists_the_worst_first():
    made = flood(
        [(event(level=1), MOHA, RAISED_S, "https://x/1"), (event(level=3), Place("Huy"), RAISED_S, "https://x/3")]
    )
    assert made.subject == "[HUY-WAREMME] 2 alarmes, seuil local 3 au plus"
    lines = [line for line in made.text.splitlines() if line.startswith("-")]
    assert made.text.index("https://x/3") < made.text.index("https://x/1"), "each with its link to answer"
    assert made.html.count("Je m&#39;en occupe</a>") == 2
    assert [line.split(" : ")[1] for line in lines] == [
        "seuil local 3 atteint, Huy. Réf. A1B2C", "seuil local 1 atteint, Mehaigne, Moha. Réf. A1B2C",
    ]  # fmt: skip
