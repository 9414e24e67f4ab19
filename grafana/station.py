# ruff: noqa: S608 - the queries are made of constants of these files
"""One station: its level against its thresholds and where it goes, what was measured beside it, and how well."""

from grafana.commune import MOMENT, events
from grafana.model import (
    BLUE,
    CALM,
    HIDDEN,
    LEGEND,
    LEVEL_1,
    LEVEL_2,
    LEVEL_3,
    NEUTRAL,
    NOTHING,
    PRESENT,
    SILENT,
    TIMELINE,
    UNKNOWN,
    Board,
    Json,
    Panel,
    Target,
    cells,
    dashed,
    fixed,
    lines,
    pattern,
    special,
    stat,
    states,
    table,
    thresholds,
    tile,
    values,
)  # fmt: skip
from grafana.parts import AFTER, FLAGS_FR, QUANTITY, STATION, TO_MESSAGES, annotations, station_variable
from wire.quantities import QUANTITIES

REACHED = thresholds((0, CALM), (1, LEVEL_1), (2, LEVEL_2), (3, LEVEL_3), base=NEUTRAL)
HERE = "\"station\" = '$station'"
WATER = f"{HERE} AND \"quantity\" = 'water_level'"


def now(
    panel: int,
    title: str,
    what: str,
    at: tuple[int, int, int, int],
    columns: str,
    defaults: Json,
    fields: str = "",
) -> Panel:
    return Panel(
        id=panel,
        kind="stat",
        title=title,
        description=what,
        at=at,
        targets=[
            Target(
                f'SELECT {columns} FROM (SELECT last("online") AS "en_ligne", "value", "level", "trend_per_h", "next_threshold", '
                f'"next_level_s", "age_s", "acked_by" FROM "station_status" WHERE {WATER} AND $timeFilter)'
            )
        ],
        options=stat(fields=fields),
        defaults=defaults,
        time=PRESENT,
    )


def threshold_lines(where: str) -> str:
    limits = ", ".join(f'max("threshold_{n}") AS "Seuil local {n}"' for n in (1, 2, 3))
    return f'SELECT {limits} FROM "station_status" WHERE {where} AND $timeFilter GROUP BY time($__interval) fill(none)'


THRESHOLD_COLORS = {f"Seuil local {n}": dashed(c) for n, c in ((1, LEVEL_1), (2, LEVEL_2), (3, LEVEL_3))}


PROJECTION = fixed("#8ab8ff", lineStyle={"fill": "dot", "dash": [2, 8]}, lineWidth=4, spanNulls=True)


def level(panel: int, at: tuple[int, int, int, int], *, projected: bool) -> Panel:
    measured = (
        f'SELECT max("value") AS "Niveau" FROM "water_level" WHERE {HERE} AND "qc" < 4 AND $timeFilter '
        "GROUP BY time($__interval) fill(none)"
    )
    ahead = (
        f'SELECT "value" AS "Projection" FROM (SELECT last("holds") AS "holds", "value" FROM "projection" WHERE {HERE} '
        'AND $timeFilter GROUP BY "ahead_min") WHERE "holds" = 1'
    )
    return Panel(
        id=panel,
        kind="timeseries",
        title="Niveau de $station, seuils locaux" + (" et projection" if projected else ""),
        description=(
            "Niveau mesuré (maximum de chaque intervalle, sans les valeurs mauvaises) et seuils locaux en tirets. "
            + (
                "Projection en pointillés bleus : où l'eau sera dans l'heure si la tendance de la dernière demi-heure continue. Ce "
                "n'est pas une prévision de crue. Rien n'est projeté quand l'eau ne monte pas vers un seuil."
                if projected
                else "Choisir en haut la période de l'événement."
            )
        ),
        at=at,
        targets=[
            Target(measured, table=False, alias="$col"),
            Target(threshold_lines(WATER), ref="B", table=False, alias="$col"),
            *([Target(ahead, ref="C", table=False, alias="$col")] if projected else []),
        ],
        options=LEGEND,
        defaults=lines("suffix: m", "Aucun niveau d'eau sur cette période", decimals=2),
        overrides={
            "Niveau": fixed(BLUE, lineWidth=3, fillOpacity=12),
            **THRESHOLD_COLORS,
            **({"Projection": PROJECTION} if projected else {}),
        },
    )  # fmt: skip


def rate(panel: int, at: tuple[int, int, int, int]) -> Panel:
    return Panel(
        id=panel,
        kind="timeseries",
        title="Vitesse de montée",
        description="De combien l'eau monte, ou baisse sous zéro, en centimètres par heure : moyenne sur 15 minutes.",
        at=at,
        targets=[
            Target(
                f'SELECT derivative(mean("value"), 1h) * 100 AS "Vitesse" FROM "water_level" WHERE {HERE} AND "qc" < 4 '
                "AND $timeFilter GROUP BY time(15m) fill(none)",
                table=False,
                alias="$col",
            )
        ],
        options=LEGEND,
        defaults=lines("suffix: cm/h", "Aucun niveau d'eau sur cette période", decimals=0, gap_ms=3_600_000),
        overrides={"Vitesse": fixed(BLUE, fillOpacity=15)},
    )


def rain(panel: int, at: tuple[int, int, int, int]) -> Panel:
    return Panel(
        id=panel,
        kind="timeseries",
        title="Pluie",
        description="Millimètres tombés par heure au pluviomètre de cette station. Sans pluviomètre, le panneau reste vide.",
        at=at,
        targets=[
            Target(
                f'SELECT sum("value") AS "Pluie" FROM "rainfall" WHERE {HERE} AND "qc" < 4 AND $timeFilter '
                "GROUP BY time(1h) fill(none)",
                table=False,
                alias="$col",
            )
        ],
        options=LEGEND,
        defaults=lines("lengthmm", "Aucune pluie mesurée ici sur cette période", draw="bars"),
        overrides={"Pluie": fixed(BLUE)},
    )


def temperatures(panel: int, at: tuple[int, int, int, int]) -> Panel:
    def mean(quantity: str, name: str, ref: str) -> Target:
        return Target(
            f'SELECT mean("value") AS "{name}" FROM "{quantity}" WHERE {HERE} AND "qc" < 4 AND $timeFilter '
            "GROUP BY time($__interval) fill(none)",
            ref=ref,
            table=False,
            alias="$col",
        )

    return Panel(
        id=panel,
        kind="timeseries",
        title="Températures",
        description="Air et eau, moyenne de chaque intervalle.",
        at=at,
        targets=[mean("air_temperature", "Air", "A"), mean("water_temperature", "Eau", "B")],
        options=LEGEND,
        defaults=lines("celsius", "Aucune température mesurée ici sur cette période"),
        overrides={"Air": fixed("#ff8c1a"), "Eau": fixed(BLUE)},
    )


def flags(panel: int, at: tuple[int, int, int, int]) -> Panel:
    def count(flag: int, ref: str) -> Target:
        return Target(
            f'SELECT count("value") AS "{FLAGS_FR[flag]}" FROM "water_level" WHERE {HERE} AND "qc" = {flag} AND $timeFilter '
            "GROUP BY time(1h) fill(none)",
            ref=ref,
            table=False,
            alias="$col",
        )

    colors = {1: CALM, 2: NEUTRAL, 3: LEVEL_2, 4: LEVEL_3}
    stacked: Json = {"stacking": {"mode": "normal", "group": "A"}}
    return Panel(
        id=panel,
        kind="timeseries",
        title="Qualité des mesures",
        description=(
            "Nombre de mesures de niveau par heure et par drapeau QARTOD. « Suspect ou d'intérêt » n'est pas une erreur : un début "
            "de crue en porte. « Mauvais » n'alarme pas et n'est pas dessiné."
        ),
        at=at,
        targets=[count(flag, chr(ord("A") + i)) for i, flag in enumerate(FLAGS_FR)],
        options=LEGEND,
        defaults=lines("none", "Aucune mesure de niveau sur cette période", decimals=0, draw="bars", **stacked)
        | {"min": 0},
        overrides={FLAGS_FR[flag]: fixed(color) for flag, color in colors.items()},
    )


def gaps(panel: int, at: tuple[int, int, int, int]) -> Panel:
    return Panel(
        id=panel,
        kind="state-timeline",
        title="Silences",
        description="Vert : la grandeur était reçue. Violet : elle était muette. Non dessiné : le central n'écrivait pas.",
        at=at,
        targets=[
            Target(
                f'SELECT min("online") FROM "station_status" WHERE {HERE} AND $timeFilter '
                'GROUP BY time($__interval), "quantity" fill(none)',
                table=False,
                alias="$tag_quantity",
            )
        ],
        options=TIMELINE,
        defaults=states(
            "Aucun état sur cette période",
            values({"1": "reçue", "0": "MUETTE"}),
            limits=thresholds((1, CALM), base=SILENT),
        ),
        overrides={q.name: {"displayName": q.label_fr} for q in QUANTITIES.values()},
    )


def power(panel: int, at: tuple[int, int, int, int]) -> Panel:
    def last(quantity: str, name: str, ref: str) -> Target:
        return Target(
            f'SELECT min("value") AS "{name}" FROM "{quantity}" WHERE {HERE} AND $timeFilter GROUP BY time($__interval) fill(none)',
            ref=ref,
            table=False,
            alias="$col",
        )

    return Panel(
        id=panel,
        kind="timeseries",
        title="Batterie et signal radio",
        description="Tension (V) et charge (%) de la batterie, signal radio reçu (dBm), le minimum de chaque intervalle.",
        at=at,
        targets=[
            last("battery_voltage", "Batterie", "A"),
            last("battery_level", "Charge", "B"),
            last("rssi", "Signal", "C"),
        ],
        options=LEGEND,
        defaults=lines("none", "Ni batterie ni radio mesurées ici sur cette période"),
        overrides={
            "Batterie": {"unit": "volt", "decimals": 3, "custom.axisPlacement": "left"} | fixed(CALM),
            "Charge": {"unit": "percent", "custom.axisPlacement": "hidden"} | fixed(BLUE),
            "Signal": {"unit": "dBm", "decimals": 0, "custom.axisPlacement": "right"} | fixed(LEVEL_2),
        },
    )


def sheet(panel: int, at: tuple[int, int, int, int]) -> Panel:
    def open_it(title: str) -> Json:
        here = {"links": [{"title": title, "url": "${__value.raw}", "targetBlank": True}], "custom.width": 65}
        return UNKNOWN | {"mappings": [pattern("^https?://.*$", "ouvrir"), NOTHING]} | here

    return Panel(
        id=panel,
        kind="table",
        title="Fiche de la station",
        description=(
            "Nom, grandeurs mesurées, liens vers la fiche et la photo (`sheet` et `photo` dans la configuration du central)."
        ),
        at=at,
        targets=[
            Target(
                'SELECT "name" AS "Nom", "quantity" AS "Grandeur", '
                '"sheet" AS "Fiche", "photo" AS "Photo" FROM (SELECT last("online") AS "en_ligne", "name", '
                f'"age_s", "sheet", "photo" FROM "station_status" WHERE {HERE} AND $timeFilter GROUP BY "station", "quantity", "commune")'
            )
        ],
        options=table(("Grandeur", False)),
        defaults=cells("Le central n'a rien écrit de cette station depuis 10 minutes"),
        overrides={
            "Time": HIDDEN,
            "Nom": UNKNOWN,
            "Grandeur": QUANTITY,
            "Fiche": open_it("Ouvrir la fiche"),
            "Photo": open_it("Ouvrir la photo"),
        },
        time=PRESENT,
    )


def calibrations(panel: int, at: tuple[int, int, int, int]) -> Panel:
    return Panel(
        id=panel,
        kind="table",
        title="Étalonnages",
        description=(
            "Chaque étalonnage fait sur place, depuis dix ans : à partir de quand, par qui, et ce qu'il change (valeur publiée = "
            "pente × mesure + décalage)."
        ),
        at=at,
        targets=[
            Target(
                'SELECT "sensor" AS "Capteur", "quantity" AS "Grandeur", "by" AS "Par", "offset" AS "Décalage", "slope" AS "Pente" '
                f'FROM "calibration" WHERE {HERE} AND $timeFilter ORDER BY time DESC LIMIT 50'
            )
        ],
        options=table(("Heure", True)),
        defaults=cells("Aucun étalonnage connu : les valeurs sont publiées comme elles sont mesurées"),
        overrides={
            "Time": MOMENT | {"unit": "time:DD/MM/YYYY HH:mm"},
            "Capteur": {"custom.width": 80},
            "Grandeur": QUANTITY,
            "Par": {"custom.width": 95},
            "Décalage": {"decimals": 3, "custom.width": 85},
            "Pente": {"decimals": 3, "custom.width": 70},
        },
        time="10y",
    )


def board() -> Board:
    return Board(
        uid=STATION,
        title="3 Station",
        description="Une station : niveau, seuils et projection, ce qui est mesuré à côté, et la qualité de tout cela.",
        variables=[station_variable()],
        annotations=annotations("Alarmes", "Acquittements", "Pannes", station="$station"),
        span=("now-6h", "now+1h"),
        panels=[
            now(
                1, "Niveau", "Dernier niveau d'eau reçu, en mètres au-dessus du zéro de l'échelle.", (0, 0, 4, 4), '"value" AS "Niveau"',
                tile("suffix: m", thresholds(base=NEUTRAL), "Inconnu", 2),
            ),
            now(
                2, "Seuil local atteint", "Le plus haut seuil local d'une alarme ouverte ; 0 : aucun.", (4, 0, 4, 4),
                '"level" AS "Seuil"', tile("none", REACHED, "Inconnu"),
            ),
            now(
                3, "Tendance", "Sur la dernière demi-heure, en centimètres par heure ; négative : l'eau baisse.", (8, 0, 4, 4),
                '"trend_per_h" * 100 AS "Tendance"',
                tile("suffix: cm/h", thresholds((5, LEVEL_1), (15, LEVEL_2), (50, LEVEL_3), base=NEUTRAL), "Inconnue"),
            ),
            now(
                4, "Seuil suivant dans",
                "Minutes jusqu'au seuil suivant si la tendance continue. « — » : pas de montée, plus de seuil, ou inconnu.",
                (12, 0, 4, 4), '"next_level_s" / 60 AS "Dans"',
                tile("suffix: min", thresholds((0, LEVEL_3), (30, LEVEL_2), (120, LEVEL_1), (360, NEUTRAL), base=NEUTRAL), "—"),
            ),
            now(
                5, "Âge de la mesure", "Âge de la dernière mesure utilisable de niveau.", (16, 0, 4, 4), '"age_s" / 60 AS "Âge"',
                tile("suffix: min", thresholds((0, CALM), (15, LEVEL_2), (60, SILENT), base=NEUTRAL), "Inconnu"),
            ),
            now(
                6, "Répondu par", "Qui a pris acte de l'alarme ouverte la plus grave. « — » : pas d'alarme ouverte, ou inconnu.",
                (20, 0, 4, 4), '"acked_by" AS "Réponse"',
                {
                    "unit": "none", "noValue": "—", "color": {"mode": "thresholds"}, "thresholds": thresholds(base=NEUTRAL),
                    "mappings": [special("empty", "PERSONNE", LEVEL_3), NOTHING], **TO_MESSAGES,
                } | {"links": [{"title": "Messages envoyés", "url": f"/d/{AFTER}?var-station=$station"}]},
                "/^Réponse$/",
            ),
            level(7, (0, 4, 16, 11), projected=True),
            sheet(8, (16, 4, 8, 5)),
            rate(9, (16, 9, 8, 6)),
            rain(10, (0, 15, 8, 7)),
            temperatures(11, (8, 15, 8, 7)),
            power(12, (16, 15, 8, 7)),
            flags(13, (0, 22, 8, 7)),
            gaps(14, (8, 22, 8, 7)),
            calibrations(15, (16, 22, 8, 7)),
            events(16, "Alarmes et réponses de la station", (0, 29, 24, 8), f"{HERE} AND ", of_one=True),
        ],
    )  # fmt: skip
