"""One name for the payload codecs of many vendors: the model says whose it is. The vendor's module is the one whose
name the model contains (`Netvox R718X` -> netvox, `P+F WILSEN level` -> pf_wilsen)."""

from functools import cache

from pydantic import field_validator

from edge import drivers
from edge.errors import ConfigError
from edge.sensors._lorawan import UplinkOptions
from edge.sensors.base import Driver, Field


class MiscOptions(UplinkOptions):
    """`model`: vendor and type, such as `Netvox R718X`. What else a vendor's driver can be told, it is told under its
    own name."""

    model: str

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        try:
            drivers.options(vendor(model), {"model": model})
        except ConfigError as e:
            raise ValueError(str(e)) from None
        return model


@cache
def vendor(model: str) -> Driver:
    """The driver of the model's vendor. Raises ConfigError."""
    wanted = "".join(c for c in model.lower() if c.isalnum())
    found = [name for name in drivers.names() if name.replace("_", "") in wanted and not name.endswith("_misc")]
    driver = drivers.find(max(found, key=len)) if found else None
    if driver is None or driver.link != "payload":
        raise ConfigError(
            f"model {model!r}: no driver of its vendor, expected a vendor and a type such as Netvox R718X"
        )
    return driver


def decode(frame: bytes, options: MiscOptions) -> list[Field]:
    """As the vendor's driver."""
    driver = vendor(options.model)
    return driver.decode(frame, driver.options.model_validate(options.model_dump()))
