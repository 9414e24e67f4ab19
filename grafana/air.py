# ruff: noqa: S608 - the queries are made of constants of these files
"""Air: dust and CO2 of one station against BelAQI and the Walloon smog thresholds; indicative, the sensors are no reference ones."""

from grafana.model import (
    BLUE,
    CALM,
    LEGEND,
    LEVEL_1,
    LEVEL_2,
    LEVEL_3,
    NEUTRAL,
    Board,
    Json,
    Panel,
    Target,
    fixed,
    lines,
    stat,
    thresholds,
    tile,
    values,
)  # fmt: skip
from grafana.parts import AIR, annotations
from grafana.parts import station_variable as stations

HERE = "\"station\" = '$station'"

BELAQI = (
    ("excellent", "#0000FF"), ("très bon", "#0099FF"), ("bon", "#009900"), ("assez bon", "#00FF00"), ("moyen", "#FFFF00"),
    ("médiocre", "#FFBB00"), ("très médiocre", "#FF6600"), ("mauvais", "#FF0000"), ("très mauvais", "#CC0000"), ("exécrable", "#990099"),
)  # fmt: skip
"""Labels and colours of 1 to 10 (IRCEL-CELINE, BelAQI of November 2022; irceline/map_legends)."""

SMOG = {"pm2_5": (35.0, 50.0), "pm10": (50.0, 70.0, 150.0)}
"""ug/m3 over 24 running hours: information, alerte, and of PM10 a last one (plan wallon en cas de pic de pollution, wallonie.be)."""


def told(column: str) -> str:
    """The newest of what the gateway tells in its health as `<station>/<sensor>/<column>`."""
    return f'SELECT last(/^$station\\/.*\\/{column}$/) FROM "gateway_health" WHERE $timeFilter'


def index(panel: int, title: str, what: str, at: tuple[int, int, int, int], column: str) -> Panel:
    named = {str(i): f"{i} {label}" for i, (label, _) in enumerate(BELAQI, 1)}
    return Panel(
        id=panel,
        kind="stat",
        title=title,
        description=what
        + " Calculé par la passerelle, INDICATIF : ce capteur n'est pas une station de référence de l'ISSeP.",
        at=at,
        targets=[Target(told(column))],
        options=stat(),
        defaults=tile(
            "none",
            thresholds(*((i, color) for i, (_, color) in enumerate(BELAQI, 1)), base=NEUTRAL),
            "Pas encore assez de mesures",
        )
        | {"mappings": [values(named)], "displayName": title},
        time="2h",
    )


def newest(panel: int, title: str, at: tuple[int, int, int, int], quantity: str, unit: str, limits: Json) -> Panel:
    return Panel(
        id=panel,
        kind="stat",
        title=title,
        description="Moyenne des dix dernières minutes, sans les valeurs mauvaises. Le seuil de couleur est indicatif.",
        at=at,
        targets=[
            Target(f'SELECT mean("value") AS "Valeur" FROM "{quantity}" WHERE {HERE} AND "qc" < 4 AND $timeFilter')
        ],
        options=stat(),
        defaults=tile(unit, limits, "Pas de mesure"),
        time="10m",
    )


def daily(panel: int, title: str, at: tuple[int, int, int, int], quantity: str) -> Panel:
    limits = SMOG[quantity]
    names = ("information", "alerte", "seuil 2")
    return Panel(
        id=panel,
        kind="timeseries",
        title=title,
        description=(
            "Moyenne glissante sur 24 heures, calculée par la passerelle dès que 75 % des heures y sont, face aux seuils wallons de pic "
            f"de pollution ({', '.join(f'{n} {v:.0f}' for n, v in zip(names, limits, strict=False))} µg/m³). Indicatif."
        ),
        at=at,
        targets=[
            Target(
                f'SELECT mean(/^$station\\/.*\\/{quantity}_mean_24h$/) FROM "gateway_health" WHERE $timeFilter '
                "GROUP BY time($__interval) fill(none)",
                table=False,
                alias="$col",
            )
        ],
        options=LEGEND,
        defaults=lines(
            "conμgm3",
            "Pas encore de moyenne sur 24 heures",
            limits=thresholds(*zip(limits, (LEVEL_2, LEVEL_3, "#990099"), strict=False), base=CALM),
            style="dashed",
            gap_ms=3_600_000,
            axisSoftMax=1.1 * limits[-1],
        )
        | {"displayName": "Moyenne 24 h", "min": 0, "color": {"mode": "fixed", "fixedColor": BLUE}},
    )


def course(panel: int, title: str, at: tuple[int, int, int, int], unit: str, *series: tuple[str, str, str]) -> Panel:
    return Panel(
        id=panel,
        kind="timeseries",
        title=title,
        description="Moyenne de chaque intervalle, sans les valeurs mauvaises ; un trou est un silence.",
        at=at,
        targets=[
            Target(
                f'SELECT mean("value") AS "{name}" FROM "{quantity}" WHERE {HERE} AND "qc" < 4 AND $timeFilter '
                "GROUP BY time($__interval) fill(none)",
                ref=chr(ord("A") + i),
                table=False,
                alias="$col",
            )
            for i, (quantity, name, _) in enumerate(series)
        ],
        options=LEGEND,
        defaults=lines(unit, "Pas de mesure à cette station sur cette période"),
        overrides={name: fixed(color) for _, name, color in series},
    )


def pattern(panel: int, at: tuple[int, int, int, int]) -> Panel:
    """A day is a row and an hour a column: Grafana has no hour of the day, InfluxQL neither."""
    return Panel(
        id=panel,
        kind="timeseries",
        title="PM2,5 heure par heure, 7 jours",
        description=(
            "Moyenne de chaque heure sur sept jours : les heures de pointe et les soirs de chauffage se répètent d'un jour à l'autre. "
            "Couleur : classe horaire de BelAQI pour les PM2,5, indicative."
        ),
        at=at,
        targets=[
            Target(
                f'SELECT mean("value") AS "PM2,5" FROM "pm2_5" WHERE {HERE} AND "qc" < 4 AND $timeFilter GROUP BY time(1h) fill(none)',
                table=False,
                alias="$col",
            )
        ],
        options=LEGEND,
        defaults=lines(
            "conμgm3",
            "Pas de PM2,5 à cette station sur sept jours",
            draw="bars",
            limits=thresholds(
                *zip((3.5, 7.5, 10, 15, 20, 35, 50, 60, 75), (c for _, c in BELAQI[1:]), strict=True), base=BELAQI[0][1]
            ),
            gradientMode="scheme",
        )
        | {"color": {"mode": "thresholds"}},
        time="7d",
    )


def board() -> Board:
    pm = thresholds((35, LEVEL_2), (50, LEVEL_3), base=NEUTRAL)
    return Board(
        uid=AIR,
        title="4 Air",
        description="Poussières et CO2 d'une station, BelAQI indicatif, moyennes sur 24 heures face aux seuils wallons.",
        variables=[stations("pm2_5")],
        annotations=annotations("Alarmes", "Pannes", station="$station"),
        span=("now-48h", "now"),
        refresh="1m",
        panels=[
            index(
                1, "BelAQI horaire (indicatif)", "Classe de la dernière heure, de 1 (excellent) à 10 (exécrable).", (0, 0, 5, 5),
                "belaqi_hourly_indicative",
            ),
            index(
                2, "BelAQI sur 24 h (indicatif)", "Classe des dernières 24 heures, de 1 (excellent) à 10 (exécrable).", (5, 0, 5, 5),
                "belaqi_daily_indicative",
            ),
            newest(3, "PM2,5 maintenant", (10, 0, 4, 5), "pm2_5", "conμgm3", pm),
            newest(4, "PM10 maintenant", (14, 0, 5, 5), "pm10", "conμgm3", thresholds((50, LEVEL_2), (70, LEVEL_3), base=NEUTRAL)),
            newest(5, "CO2 maintenant", (19, 0, 5, 5), "co2", "ppm", thresholds((900, LEVEL_1), (1200, LEVEL_2), base=NEUTRAL)),
            daily(6, "PM2,5, moyenne sur 24 heures", (0, 5, 12, 8), "pm2_5"),
            daily(7, "PM10, moyenne sur 24 heures", (12, 5, 12, 8), "pm10"),
            course(8, "Poussières", (0, 13, 12, 8), "conμgm3", ("pm2_5", "PM2,5", BLUE), ("pm10", "PM10", LEVEL_2)),
            course(9, "CO2", (12, 13, 6, 8), "ppm", ("co2", "CO2", CALM)),
            course(10, "Température de l'air", (18, 13, 6, 8), "celsius", ("air_temperature", "Air", LEVEL_2)),
            pattern(11, (0, 21, 24, 8)),
        ],
    )  # fmt: skip
