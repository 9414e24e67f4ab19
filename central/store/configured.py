"""The store that central.toml names."""

from central.config import CentralConfig, InfluxDb
from central.store.base import Store
from central.store.embedded import Embedded
from central.store.influx import Influx


def store(config: CentralConfig) -> Store:
    """The configured store; touches nothing."""
    if isinstance(config.store, InfluxDb):
        s = config.store
        return Influx(s.url, s.database, s.username, s.password)
    return Embedded(config.data_dir / "store.db")
