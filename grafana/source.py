"""The data source of the boards, as Grafana's API takes it. The file for its provisioning says the same, in variables."""

from grafana.model import DATASOURCE, Json


def source(url: str, database: str, user: str, password: str) -> Json:
    """`database` stands twice: the newer place is unknown to servers before 9.4, the older is read by all."""
    return {
        "name": "Maillages",
        **DATASOURCE,
        "access": "proxy",
        "url": url,
        "user": user,
        "database": database,
        "jsonData": {
            "version": "InfluxQL",
            "dbName": database,
            "httpMode": "POST",
            "timeInterval": "1m",
            "maxSeries": 2000,
        },
        "secureJsonData": {"password": password},
    }
