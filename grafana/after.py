# ruff: noqa: S608 - the queries are made of constants of these files
"""An event from its start to its end, for the debriefing: narrow panels one under the other, so that it prints on A4."""

from grafana.commune import events, told
from grafana.model import (
    AGE,
    BLUE,
    LEVEL_1,
    LEVEL_2,
    LEVEL_3,
    NEUTRAL,
    Board,
    Json,
    Panel,
    Target,
    cells,
    stat,
    table,
    thresholds,
    tile,
)  # fmt: skip
from grafana.parts import AFTER, annotations, station_variable
from grafana.station import HERE, WATER, level, rain

WIDTH = 24


def crest(panel: int, title: str, at: tuple[int, int, int, int], defaults: Json, fields: str, color: str) -> Panel:
    return Panel(
        id=panel,
        kind="stat",
        title=title,
        description="Le plus haut niveau mesuré sur la période choisie, valeurs mauvaises exclues, et l'heure à laquelle il l'a été.",
        at=at,
        targets=[
            Target(f'SELECT max("value") AS "Crête" FROM "water_level" WHERE {HERE} AND "qc" < 4 AND $timeFilter')
        ],
        options=stat(fields=fields, color=color) | {"text": {"valueSize": 44}},
        defaults=defaults,
    )


def above(panel: int, number: int, color: str, at: tuple[int, int, int, int]) -> Panel:
    return Panel(
        id=panel,
        kind="stat",
        title=f"Au seuil local {number} ou plus",
        description=f"Durée totale, en minutes, pendant laquelle une alarme du seuil local {number} ou plus est restée ouverte.",
        at=at,
        targets=[
            Target(
                f'SELECT count("level") AS "Minutes" FROM "station_status" WHERE {WATER} AND "level" >= {number} AND $timeFilter'
            )
        ],
        options=stat(),
        defaults=tile("suffix: min", thresholds((1, color), base=NEUTRAL), "Jamais"),
    )


def silences(panel: int, at: tuple[int, int, int, int]) -> Panel:
    inner = f'SELECT elapsed("value", 1s) AS "s" FROM "water_level" WHERE {HERE} AND $timeFilter'
    return Panel(
        id=panel,
        kind="table",
        title="Trous de plus de dix minutes dans les mesures",
        description="Fin et durée de chaque intervalle de plus de dix minutes sans aucune mesure de niveau dans la base.",
        at=at,
        targets=[Target(f'SELECT "s" AS "Durée" FROM ({inner}) WHERE "s" > 600')],
        options=table(("Mesures de nouveau à", False)),
        defaults=cells("Aucun trou de plus de dix minutes"),
        overrides={
            "Time": {"displayName": "Mesures de nouveau à", "unit": "time:DD/MM HH:mm:ss"},
            "Durée": AGE,
        },
    )


def board() -> Board:
    steps = "(\"transition\" = 'raise' OR \"transition\" = 'escalate' OR \"transition\" = 'deescalate' OR \"transition\" = 'clear')"
    others = "\"transition\" != 'raise' AND \"transition\" != 'escalate' AND \"transition\" != 'deescalate' AND \"transition\" != 'clear'"
    return Board(
        uid=AFTER,
        title="6 Après",
        description=(
            "Un événement du début à la fin, pour le débriefing. Choisir la station et la période, puis imprimer depuis le navigateur avec "
            "?kiosk&theme=light : A4, portrait, échelle 60 %."
        ),
        variables=[station_variable()],
        annotations=annotations("Alarmes", "Acquittements", "Pannes", station="$station"),
        refresh="",
        panels=[
            crest(1, "Crête", (0, 0, 5, 4), tile("suffix: m", thresholds(base=BLUE), "Aucune mesure", 2), "", "background"),
            crest(
                2, "Heure de la crête", (5, 0, 7, 4),
                {"unit": "time:DD/MM HH:mm", "noValue": "—", "color": {"mode": "fixed", "fixedColor": "text"}}, "/^Time$/", "value",
            ),
            above(3, 1, LEVEL_1, (12, 0, 4, 4)),
            above(4, 2, LEVEL_2, (16, 0, 4, 4)),
            above(5, 3, LEVEL_3, (20, 0, 4, 4)),
            level(6, (0, 4, WIDTH, 10), projected=False),
            rain(7, (0, 14, WIDTH, 5)),
            events(8, "Seuils franchis, du début à la fin", (0, 19, WIDTH, 7), f"{HERE} AND {steps} AND ", newest_first=False, of_one=True),
            events(
                9, "Réponses et suites", (0, 26, WIDTH, 7), f"{HERE} AND {others} AND ", newest_first=False, of_one=True, measured=False,
            ),
            told(10, (0, 33, WIDTH, 9), HERE, brief=True),
            silences(11, (0, 42, WIDTH, 6)),
        ],
    )  # fmt: skip
