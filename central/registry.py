"""Which stations central knows, whose they are, and what their gateways say of them."""

import threading
from collections.abc import Mapping

from central import config
from central.holding import Holding
from wire.station import SensorInfo, StationInfo, Stations


class Registry:
    """The configured stations joined with the `stations` that each gateway published. Safe from several threads."""

    def __init__(self, stations: tuple[config.Station, ...], holding: Holding) -> None:
        self._configured = {s.id: s for s in stations}
        self._holding = holding
        self._lock = threading.Lock()
        self._published: dict[str, StationInfo] = {}
        self._described: set[tuple[str, str, str]] = set()
        """Gateway, station, sensor: every one that was ever published."""
        self.generation = 0
        """Grows when something changes, so that what was derived can be made anew."""

    def load(self) -> None:
        """What was published before this start."""
        self._described = self._holding.described_sensors()
        for gateway, (stations, _, _) in self._holding.gateways().items():
            if stations:
                self._take(gateway, stations)

    def publish(self, gateway: str, stations: Stations) -> list[str]:
        """A gateway describes its stations. Gives the ids of those that are not registered to it, which are left out."""
        self._holding.set_stations(gateway, stations)
        return self._take(gateway, stations)

    def _take(self, gateway: str, stations: Stations) -> list[str]:
        strangers = []
        with self._lock:
            for info in stations.stations:
                self._described |= {(gateway, info.id, sensor.id) for sensor in info.sensors}
                station = self._configured.get(info.id)
                if station is None or station.gateway != gateway:
                    strangers.append(info.id)
                else:
                    self._published[info.id] = info
            self.generation += 1
        return strangers

    @property
    def stations(self) -> Mapping[str, config.Station]:
        """All registered stations."""
        return self._configured

    def owner(self, station: str) -> str | None:
        """The gateway that a station is registered to; None when it is not registered."""
        found = self._configured.get(station)
        return found.gateway if found else None

    def info(self, station: str) -> StationInfo | None:
        """What its gateway says of a registered station, if it has said so yet."""
        return self._published.get(station)

    def sensor_known(self, station: str, sensor: str) -> bool:
        """False only when the gateway has described this station, and never with such a sensor: one that has been taken out of its
        configuration, or renamed, may have measured before."""
        return station not in self._published or (self.owner(station), station, sensor) in self._described

    def sensors(self, station: str) -> tuple[SensorInfo, ...]:
        info = self._published.get(station)
        return info.sensors if info else ()
