"""What a gateway tells about itself: its stations (retained), its status (retained, and the Will), its active alarms."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wire.alarm import AlarmEvent, describe
from wire.errors import WireError
from wire.ids import Id

T = TypeVar("T", bound=BaseModel)


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class QuantityInfo(_Wire):
    """A quantity that a sensor gives: seconds between readings (0: as they come), thresholds of local levels 1 to 3."""

    quantity: str
    period_s: float = Field(ge=0)
    thresholds: tuple[float | None, float | None, float | None] = (None, None, None)


class CalibrationInfo(_Wire):
    """What `by` found on site: of what was measured since `since` (RFC 3339), until the next of the quantity,
    published = slope * measured + offset. Before the first, published = measured."""

    quantity: str
    since: str
    by: str = Field(max_length=64)
    offset: float
    slope: float = Field(gt=0)


class SensorInfo(_Wire):
    id: Id
    driver: str
    quantities: tuple[QuantityInfo, ...]
    calibration: tuple[CalibrationInfo, ...] = ()


class StationInfo(_Wire):
    """A station: name for people, commune by NIS code, WGS 84 position in degrees, river if it measures one."""

    id: Id
    name: str
    commune: str = Field(pattern=r"^\d{5}$")
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    river: str | None = None
    sensors: tuple[SensorInfo, ...]


class Stations(_Wire):
    """Payload of `stations`."""

    stations: tuple[StationInfo, ...]


class GatewayStatus(_Wire):
    """Payload of `status`; the Will carries `online: false`. `since` is RFC 3339."""

    online: bool
    boot: str
    version: str
    since: str


class Active(_Wire):
    """Payload of `active`: the last event of every occurrence that is not NORMAL."""

    active: tuple[AlarmEvent, ...]


def parse_as(model: type[T], payload: bytes) -> T:
    """`payload` (JSON) as `model`. Raises WireError naming the member and what was expected."""
    try:
        return model.model_validate_json(payload)
    except ValidationError as e:
        raise WireError(describe(e)) from e
