"""A sensor: how it is reached, how its readings are corrected and checked."""

from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from edge.config.base import PositiveSeconds, QuantityName, Seconds, Strict, known_quantity
from wire.ids import Id


class LevelFromDistance(Strict):
    """Water level = datum + mounting height - distance. `mounting_height_m`: sensor face above the reference mark;
    `datum_m`: that mark above the gauge zero."""

    mounting_height_m: float = Field(gt=0)
    datum_m: float = 0


class GrossRange(Strict):
    """QARTOD gross range in the quantity's unit (of rainfall in mm/h): outside `fail` the flag is 4, outside `suspect` 3."""

    fail: tuple[float, float]
    suspect: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _spans(self) -> Self:
        if self.fail[0] >= self.fail[1]:
            raise ValueError("fail: expected [lowest, highest]")
        if self.suspect and not self.fail[0] <= self.suspect[0] < self.suspect[1] <= self.fail[1]:
            raise ValueError("suspect: expected a span inside fail")
        return self


class Calibration(Strict):
    """What `by` found on site: from the moment `from` on (with its UTC offset), `quantity` = slope * measured + offset.

    It is applied to what was measured since, until the next entry of the quantity. Entries are only ever added.
    """

    quantity: QuantityName
    begin: AwareDatetime = Field(alias="from")
    by: str = Field(min_length=1, max_length=64)
    offset: float = Field(default=0, ge=-1e6, le=1e6)
    slope: float = Field(default=1, gt=0, le=100)

    @property
    def begin_s(self) -> float:
        """Unix time."""
        return self.begin.timestamp()


class Air(Strict):
    """For an ultrasonic device that does not compensate by itself: the `sensor` of the same station whose `air_temperature`
    says how fast sound is. Without one of the last `max_age_s` the distance stays uncompensated, with flag 3."""

    sensor: Id
    max_age_s: PositiveSeconds = 3600


class Tilt(Strict):
    """Beyond `max_deg` from plumb a distance is none: at 20 degrees it is 6 % too long. `upright`: the acceleration (x, y, z)
    that a device says when it hangs as it should; without it only devices that say their tilt are judged."""

    max_deg: float = Field(default=20, gt=0, le=90)
    upright: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _direction(self) -> Self:
        if self.upright is not None and not any(self.upright):
            raise ValueError("upright: found [0, 0, 0], expected a direction")
        return self


class Spike(Strict):
    """How far a reading may stand out from both its neighbours, in the quantity's unit."""

    suspect: float = Field(gt=0)
    fail: float = Field(gt=0)

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.suspect > self.fail:
            raise ValueError("expected suspect at or below fail")
        return self


class Rate(Strict):
    """A change of more than `change` (the quantity's unit) in `within_s`, or in proportion, gets flag 3."""

    change: float = Field(gt=0)
    within_s: PositiveSeconds


class FlatLine(Strict):
    """A quantity whose readings differ by less than `tolerance` for `suspect_s` gets flag 3, for `fail_s` 4 (never without it)."""

    tolerance: float = Field(gt=0)
    suspect_s: PositiveSeconds
    fail_s: PositiveSeconds | None = None

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.fail_s is not None and self.suspect_s > self.fail_s:
            raise ValueError("expected suspect_s at or below fail_s")
        return self


class Rs485(Strict):
    """`rts`: the kernel raises RTS while it sends, for a transceiver that does not find the direction by itself."""

    rts: bool = False


class Power(Strict):
    """A relay in the sensor's supply, which cuts it while drawn: for `off_s`, when `after` attempts to hear it have failed in a row."""

    driver: Literal["lcus1"] = "lcus1"
    port: str
    channel: int = Field(default=1, ge=1, le=8)
    after: int = Field(default=5, ge=2)
    off_s: PositiveSeconds = 10


class Sensor(Strict):
    """A sensor on a serial `port` of its own or shared, behind a `modem` by its node `address`, or behind a `network_server`
    by its `dev_eui` (16 hexadecimal digits). Some modems' packets, and a packet forwarder's, name no sender: there it has none,
    unless it is `authenticated`.
    A port is a path, or an adapter by what it is: `usb:VID:PID` or `usb:VID:PID:SERIAL`.

    `authenticated`: behind a modem, only packets that the node has sealed with its key are believed (`maillages-edge radio
    rekey` makes it). Without, plain payloads are, and the health says so.

    `period_s` 0: every valid frame is a reading. Otherwise one reading per period: the median of the frames of the last
    `median_s` seconds before it is due (one frame for polled devices).

    `gross_range`, `spike`, `rate` and `flat_line` set a test of quality control by quantity (the defaults stand in edge/qc.py);
    false switches one of the last three off. `sentinels`: values by which the device says that it has none, in the device's own
    quantity and unit. Particle counters are suspect above `humid_from` %RH.
    """

    id: Id
    driver: str
    port: str | None = None
    baudrate: int | None = None
    rs485: Rs485 | None = None
    modem: str | None = None
    address: int | None = Field(default=None, ge=0, le=65535)
    network_server: str | None = None
    dev_eui: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{16}$", to_upper=True)] | None = None
    authenticated: bool = False
    period_s: Seconds | None = None
    median_s: PositiveSeconds = 10
    options: dict[str, Any] = Field(default={})
    level: LevelFromDistance | None = None
    gross_range: dict[str, GrossRange] = Field(default={})
    calibration: tuple[Calibration, ...] = ()
    air: Air | None = None
    tilt: Tilt = Tilt()
    spike: dict[str, Spike | Literal[False]] = Field(default={})
    rate: dict[str, Rate | Literal[False]] = Field(default={})
    flat_line: dict[str, FlatLine | Literal[False]] = Field(default={})
    sentinels: dict[str, tuple[float, ...]] = Field(default={})
    humid_from: float = Field(default=80, gt=0)
    stale_after_s: PositiveSeconds | None = None
    power: Power | None = None
    out_of_service: bool = False
    """Under maintenance: its alarms are judged and logged, and tell nobody."""

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if sum(way is not None for way in (self.port, self.modem, self.network_server)) != 1:
            raise ValueError("expected either port, modem or network_server")
        if self.dev_eui is not None and self.network_server is None:
            raise ValueError("dev_eui: expected only with network_server")
        if self.authenticated and (self.modem is None or self.address is None):
            raise ValueError("authenticated: expected only with modem and the node's address")
        for tests in (self.gross_range, self.spike, self.rate, self.flat_line, self.sentinels):
            for quantity in tests:
                known_quantity(quantity)
        return self

    @model_validator(mode="after")
    def _history(self) -> Self:
        newest: dict[str, Calibration] = {}
        for entry in self.calibration:
            known_quantity(entry.quantity)
            if self.level is not None and entry.quantity == "water_distance":
                raise ValueError("calibration: found water_distance, expected water_level, which this sensor publishes")
            last = newest.get(entry.quantity)
            if last is not None and entry.begin <= last.begin:
                raise ValueError(
                    f"calibration: {entry.quantity} from {entry.begin.isoformat()} stands after"
                    f" {last.begin.isoformat()}, expected later dates, each once"
                )
            newest[entry.quantity] = entry
        return self
