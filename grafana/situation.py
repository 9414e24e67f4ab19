# ruff: noqa: S608 - the queries are made of constants of these files
"""The wall of a crisis cell: where is it bad, is it getting worse, when does it reach us, who has answered, what do we not know."""

from grafana.model import (
    AGE,
    BLUE,
    CALM,
    HIDDEN,
    LEGEND,
    LEVEL_1,
    LEVEL_2,
    LEVEL_3,
    LEVELS,
    METRES,
    NEUTRAL,
    NUMBER,
    PRESENT,
    SEEN,
    SILENT,
    TIMELINE,
    Board,
    Json,
    Panel,
    Target,
    cells,
    lines,
    stat,
    states,
    table,
    thresholds,
    tile,
    values,
)  # fmt: skip
from grafana.parts import (
    ANSWERED,
    CHAIN,
    NAMED,
    ONLINE,
    QUANTITY,
    SITUATION,
    SOON,
    TO_MESSAGES,
    TO_STATION,
    TREND,
    annotations,
    columns,
    commune_variable,
    counts,
    last_status,
)  # fmt: skip

COUNT_TILES = {
    "Seuil local 3": {"thresholds": thresholds((1, LEVEL_3), base=NEUTRAL)},
    "Seuil local 2": {"thresholds": thresholds((1, LEVEL_2), base=NEUTRAL)},
    "Seuil local 1": {"thresholds": thresholds((1, LEVEL_1), base=NEUTRAL)},
    "Sous les seuils": {"thresholds": thresholds((1, CALM), base=NEUTRAL)},
    "Muettes": {"thresholds": thresholds((1, SILENT), base=NEUTRAL)},
}


def count_tiles(at: tuple[int, int, int, int]) -> Panel:
    return Panel(
        id=1,
        kind="stat",
        title="Stations par seuil local",
        description=(
            "Nombre de stations par seuil local atteint, toutes grandeurs confondues, et nombre de stations muettes. Une "
            "station muette garde, si elle l'a transmis, son dernier seuil. Les seuils locaux sont ceux de la commune : ce "
            "ne sont pas les phases de crue du SPW."
        ),
        at=at,
        targets=[Target(counts(last_status("level")))],
        options=stat("value_and_name"),
        defaults=tile("none", thresholds(base=NEUTRAL), "Aucun état reçu du central depuis 10 minutes"),
        overrides=COUNT_TILES,
        time=PRESENT,
    )


def unanswered(at: tuple[int, int, int, int]) -> Panel:
    return Panel(
        id=13,
        kind="stat",
        title="Sans réponse",
        description=(
            "Alarmes ouvertes dont personne n'a encore pris acte, toutes communes, celles de la chaîne de mesure comprises. "
            "Tant que ce nombre n'est pas zéro, les messages continuent."
        ),
        at=at,
        targets=[
            Target('SELECT last("alarms_unanswered") AS "Sans réponse" FROM "central_status" WHERE $timeFilter'),
        ],
        options=stat(),
        defaults=tile("none", thresholds((0, CALM), (1, LEVEL_3), base=NEUTRAL), "Inconnu"),
        time=PRESENT,
    )


def newest_reading(at: tuple[int, int, int, int]) -> Panel:
    inner = last_status("age_s")
    return Panel(
        id=2,
        kind="stat",
        title="Dernière mesure",
        description="Âge de la mesure la plus récente de toutes les stations, au dernier état écrit par le central.",
        at=at,
        targets=[Target(f'SELECT min("age_s") / 60 AS "Âge" FROM ({inner}) WHERE $timeFilter')],
        options=stat(),
        defaults=tile("suffix: min", thresholds((0, CALM), (15, LEVEL_2), (60, LEVEL_3), base=NEUTRAL), "Inconnu"),
        time=PRESENT,
    )


def gateways(at: tuple[int, int, int, int]) -> Panel:
    last = 'SELECT last("online") AS "on" FROM "gateway_status" WHERE $timeFilter GROUP BY "gateway"'
    return Panel(
        id=14,
        kind="stat",
        title="Sans liaison",
        description=(
            "Passerelles enregistrées dont le central n'a plus la liaison. Elles continuent d'alarmer sur place et gardent "
            "leurs mesures ; ici, leurs stations deviennent muettes."
        ),
        at=at,
        targets=[
            Target(
                f'SELECT sum("off") AS "Hors ligne" FROM (SELECT 1 - "on" AS "off" FROM ({last})) WHERE $timeFilter',
            )
        ],
        options=stat(),
        defaults=tile("none", thresholds((0, CALM), (1, SILENT), base=NEUTRAL), "Inconnu"),
        time=PRESENT,
        links={"État de la chaîne": f"/d/{CHAIN}"},
    )


def newest_status(at: tuple[int, int, int, int]) -> Panel:
    return Panel(
        id=3,
        kind="stat",
        title="État du central",
        description=(
            "Heure à laquelle le central a écrit son dernier état des stations ; il en écrit un par minute. « MUET » : rien "
            "depuis dix minutes, le central ou la base de données est en panne, et ce tableau ne dit plus rien de l'eau."
        ),
        at=at,
        targets=[Target('SELECT last("online") AS "en_ligne" FROM "station_status" WHERE $timeFilter')],
        options=stat(fields="/^Time$/"),
        defaults=SEEN,
        time=PRESENT,
    )


def map_of_stations(at: tuple[int, int, int, int]) -> Panel:
    columns = (
        '"name" AS "Station", "commune" AS "Commune", "level" AS "Seuil local", "value" AS "Niveau", '
        '"trend_per_h" * 100 AS "Tendance", "age_s" AS "Âge"'
    )
    where = '"commune" =~ /^$commune$/'
    inner = last_status(
        "level",
        "value",
        "trend_per_h",
        "age_s",
        "lat",
        "lon",
        "name",
        where=f"\"quantity\" = 'water_level' AND {where}",
    )
    silent = last_status("age_s", "lat", "lon", "name")

    def symbol(name: str) -> Json:
        return {"mode": "fixed", "fixed": f"img/icons/marker/{name}.svg"}

    def label(field: str, size: int, x: int, y: int, align: str) -> Json:
        return {
            "text": {"mode": "field", "field": field, "fixed": ""},
            "textConfig": {
                "fontSize": size, "offsetX": x,
                "offsetY": y,
                "textAlign": align, "textBaseline": "middle",
            },
        }  # fmt: skip

    def layer(name: str, ref: str, style: Json) -> Json:
        return {
            "type": "markers",
            "name": name,
            "tooltip": True,
            "location": {"mode": "coords", "latitude": "lat", "longitude": "lon"},
            "filterData": {"id": "byRefId", "options": ref},
            "config": {"showLegend": False, "style": style},
        }

    communes = {
        "type": "geojson",
        "name": "Communes",
        "tooltip": False,
        "config": {
            "src": "public/maps/maillages-communes.geojson",
            "rules": [],
            "style": {
                "color": {"fixed": "#7b8794"},
                "opacity": 0.15,
                "lineWidth": 1,
                "size": {"fixed": 2, "min": 2, "max": 15},
                "symbol": symbol("circle"),
                **label("name", 10, 0, 9, "center"),
            },
        },
    }
    return Panel(
        id=4,
        kind="geomap",
        title="Où ?",
        description=(
            "Stations de niveau d'eau. Couleur : seuil local atteint (vert sous les seuils, puis jaune, orange, rouge). Croix "
            "violette : au moins une grandeur de la station est muette ; une station muette et sous les seuils n'est pas verte. "
            "Petits points gris : les communes. Le fond de carte est celui de Grafana ; sans réseau, stations et communes restent."
        ),
        at=at,
        targets=[
            Target(
                f'SELECT {columns}, "en_ligne" AS "En ligne", "lat", "lon", "station" FROM ({inner}) '
                'WHERE "lat" >= -90 AND ("en_ligne" = 1 OR "level" > 0)'
            ),
            Target(
                'SELECT "name" AS "Station", "commune" AS "Commune", "quantity" AS "Grandeur muette", "age_s" AS "Âge", '
                f'"lat", "lon", "station" FROM ({silent}) WHERE "lat" >= -90 AND "en_ligne" = 0',
                ref="B",
            ),
        ],
        options={
            "view": {"id": "coords", "lat": 50.56, "lon": 5.29, "zoom": 10.15, "allLayers": True},
            "basemap": {"type": "default", "name": "Fond", "config": {}},
            "controls": {"showZoom": False, "mouseWheelZoom": True, "showAttribution": True, "showScale": False},
            "tooltip": {"mode": "details"},
            "layers": [
                communes,
                layer(
                    "Seuil local",
                    "A",
                    {
                        "color": {"field": "Seuil local", "fixed": NEUTRAL},
                        "opacity": 0.95,
                        "size": {"fixed": 13, "min": 5, "max": 15},
                        "symbol": symbol("circle"),
                        **label("Station", 14, 17, 0, "left"),
                    },
                ),
                layer(
                    "Muette",
                    "B",
                    {
                        "color": {"fixed": SILENT},
                        "opacity": 1,
                        "size": {"fixed": 10, "min": 5, "max": 15},
                        "lineWidth": 4,
                        "symbol": symbol("x-mark"),
                        **label("Station", 14, 17, 0, "left"),
                    },
                ),
            ],
        },
        defaults={
            "color": {"mode": "thresholds"},
            "thresholds": LEVELS,
            "noValue": "—",
            **TO_STATION,
        },
        overrides={
            "Commune": NAMED,
            "Grandeur muette": QUANTITY,
            "Niveau": METRES,
            "Tendance": TREND,
            "Âge": AGE,
            "En ligne": {"mappings": [values({"1": "oui", "0": "non"})]},
        },
        time=PRESENT,
    )


def to_handle(at: tuple[int, int, int, int]) -> Panel:
    everywhere = '"commune" =~ /^$commune$/'

    def rows(ref: str, of: str, trend: str) -> Target:
        inner = last_status(
            "level", "value", "next_threshold", "next_level_s", "trend_per_h", "age_s", "acked_by", "name",
            where=f"{of} AND {everywhere}",
        )  # fmt: skip
        return Target(
            'SELECT "level" AS "Seuil", "name" AS "Station", "commune" AS "Commune", "value" AS "Valeur", '
            f'{trend}"next_threshold" AS "Seuil suivant", "next_level_s" / 60 AS "Dans", "acked_by" AS "Répondu par", '
            '"age_s" AS "Âge", "en_ligne" AS "En ligne", "quantity" AS "Grandeur", "station" '
            f'FROM ({inner}) WHERE "level" > 0 OR "en_ligne" = 0',
            ref=ref,
        )

    return Panel(
        id=5,
        kind="table",
        title="À traiter",
        description=(
            "Toute station qui a atteint un seuil local ou qui est muette, la plus urgente d'abord. Valeur et seuil suivant dans "
            "l'unité de la grandeur ; « Dans » : minutes jusqu'au seuil suivant si la tendance de la dernière demi-heure continue. "
            "« PERSONNE » : alarme ouverte sans réponse. « — » : inconnu ou sans objet, ce qui n'est pas zéro."
        ),
        at=at,
        targets=[
            rows("A", "\"quantity\" = 'water_level'", '"trend_per_h" * 100 AS "Tendance", '),
            rows("B", "\"quantity\" != 'water_level'", ""),
        ],
        options=table(("Seuil", True), ("Dans", False), ("Âge", True)),
        defaults=cells("Aucune station à traiter, ou le central est muet (en haut à droite)"),
        overrides=columns("Seuil", "Station", "Grandeur", "Âge")
        | {
            "Commune": NAMED | {"custom.width": 85},
            "Valeur": NUMBER | {"decimals": 2, "custom.width": 65},
            "Tendance": TREND | {"custom.width": 90},
            "Seuil suivant": NUMBER | {"decimals": 2, "custom.width": 108},
            "Dans": SOON | {"custom.width": 75},
            "Répondu par": ANSWERED | TO_MESSAGES | {"custom.width": 140},
            "En ligne": ONLINE | {"custom.width": 85},
        },
        transformations=[{"id": "merge", "options": {}}],
        time=PRESENT,
    )


def silent_stations(at: tuple[int, int, int, int]) -> Panel:
    inner = last_status("value", "age_s", "name")
    return Panel(
        id=6,
        kind="table",
        title="Ce que nous ne savons pas : stations muettes",
        description=(
            "Grandeurs dont plus rien n'arrive : cela ne veut pas dire que l'eau baisse. « Muette depuis » est l'âge de la dernière "
            "mesure reçue ; « jamais reçue » : la station est déclarée et n'a rien envoyé."
        ),
        at=at,
        targets=[
            Target(
                'SELECT "name" AS "Station", "commune" AS "Commune", "quantity" AS "Grandeur", "age_s" AS "Muette depuis", '
                f'"value" AS "Dernière valeur", "en_ligne", "station" FROM ({inner}) WHERE "en_ligne" = 0'
            )
        ],
        options=table(("Muette depuis", True)),
        defaults=cells("Aucune station muette, ou le central est muet (en haut à droite)"),
        overrides=columns("Station", "Commune", "Grandeur")
        | {
            "en_ligne": HIDDEN,
            "Muette depuis": {"unit": "dtdhms", "noValue": "jamais reçue"},
            "Dernière valeur": NUMBER | {"decimals": 2},
        },
        time=PRESENT,
    )


def shares_now(at: tuple[int, int, int, int]) -> Panel:
    inner = last_status(
        "value", "threshold_3", "name", where='"quantity" = \'water_level\' AND "commune" =~ /^$commune$/'
    )
    return Panel(
        id=10,
        kind="bargauge",
        title="Niveaux maintenant, en part du seuil local 3",
        description=(
            "Les stations de niveau d'eau qui parlent, la plus haute d'abord. 100 % est le seuil local 3 de chacune. Une station "
            "muette ou sans seuil 3 n'y est pas."
        ),
        at=at,
        targets=[
            Target(
                'SELECT "name" AS "Station", "value" / "threshold_3" AS "part" '
                f'FROM ({inner}) WHERE "en_ligne" = 1 AND "threshold_3" > 0'
            )
        ],
        options={
            "reduceOptions": {"values": True, "calcs": ["lastNotNull"], "fields": "/^part$/", "limit": 8},
            "orientation": "horizontal",
            "displayMode": "basic",
            "showUnfilled": True,
            "minVizHeight": 16,
            "minVizWidth": 0,
            "text": {"titleSize": 15, "valueSize": 18},
        },
        defaults=tile(
            "percentunit",
            thresholds((1, LEVEL_3), base=BLUE),
            "Aucun niveau depuis 10 minutes : stations ou central muets",
        )
        | {"min": 0, "max": 1.5},
        transformations=[{"id": "sortBy", "options": {"sort": [{"field": "part", "desc": True}]}}],
        time=PRESENT,
    )


def share_lines(panel: int, title: str, at: tuple[int, int, int, int], span: str | None, where: str) -> Panel:
    share = (
        'SELECT "value" / "threshold_3" AS "part" FROM "station_status" WHERE "quantity" = \'water_level\' AND "online" = 1 '
        f'AND {where} AND $timeFilter GROUP BY "station"'
    )
    return Panel(
        id=panel,
        kind="timeseries",
        title=title,
        description=(
            "Toutes les stations de niveau d'eau sur une échelle : 100 % (trait rouge) est le seuil local 3 de chacune. Le maximum "
            "de chaque intervalle. Une station muette, ou sans seuil 3, n'est pas dessinée : un trou est un trou."
        ),
        at=at,
        targets=[
            Target(
                f'SELECT max("part") FROM ({share}) WHERE $timeFilter GROUP BY time($__interval), "station" fill(none)',
                table=False,
                alias="$tag_station",
            )
        ],
        options=LEGEND,
        defaults=lines(
            "percentunit",
            "Aucun niveau sur cette période",
            decimals=None,
            limits=thresholds((1, LEVEL_3), base=CALM),
            style="line",
        )
        | {"min": 0},
        time=span,
    )


def level_timeline(panel: int, at: tuple[int, int, int, int], where: str) -> Panel:
    state = (
        'SELECT "level" - (1 - "online") * 4 AS "etat" FROM "station_status" '
        f'WHERE {where} AND $timeFilter GROUP BY "station", "quantity"'
    )
    return Panel(
        id=panel,
        kind="state-timeline",
        title="Seuils atteints au fil du temps",
        description=(
            "Par station, le plus haut seuil local atteint : vert aucun, jaune 1, orange 2, rouge 3 ; violet : muette. Ce qui "
            "n'est pas dessiné n'a pas été écrit par le central."
        ),
        at=at,
        targets=[
            Target(
                f'SELECT max("etat") FROM ({state}) WHERE $timeFilter GROUP BY time($__interval), "station" fill(none)',
                table=False,
                alias="$tag_station",
            )
        ],
        options=TIMELINE,
        defaults=states(
            "Aucun état sur cette période",
            values({"0": "sous les seuils", "1": "seuil local 1", "2": "seuil local 2", "3": "seuil local 3"}),
            limits=thresholds((0, CALM), (1, LEVEL_1), (2, LEVEL_2), (3, LEVEL_3), base=SILENT),
        ),
    )


def board() -> Board:
    everywhere = '"commune" =~ /^$commune$/'
    return Board(
        uid=SITUATION,
        title="1 Situation",
        description="Niveaux d'eau et d'air face aux seuils locaux, alarmes et stations muettes. Pour l'écran mural : ajouter ?kiosk.",
        variables=[commune_variable(several=True)],
        annotations=annotations("Seuil local 3", "Pannes"),
        panels=[
            count_tiles((0, 0, 12, 4)),
            unanswered((12, 0, 3, 4)),
            newest_reading((15, 0, 3, 4)),
            gateways((18, 0, 3, 4)),
            newest_status((21, 0, 3, 4)),
            map_of_stations((0, 4, 8, 13)),
            to_handle((8, 4, 16, 8)),
            silent_stations((8, 12, 16, 5)),
            shares_now((0, 17, 6, 10)),
            share_lines(11, "Niveaux, 3 heures", (6, 17, 6, 10), "3h", everywhere),
            share_lines(7, "Niveaux, 24 heures", (12, 17, 6, 10), None, everywhere),
            level_timeline(12, (18, 17, 6, 10), everywhere),
        ],
    )
