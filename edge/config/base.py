"""What the parts of the configuration are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from wire.quantities import QUANTITIES


class Strict(BaseModel):
    """A table of the file: unknown keys are refused, nothing in it changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Level = Annotated[int, Field(ge=1, le=3)]
Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
QuantityName = Annotated[str, Field(json_schema_extra={"enum": sorted(QUANTITIES)})]


def known_quantity(name: str) -> str:
    """For validators: raises ValueError for one that is not of the table."""
    if name not in QUANTITIES:
        raise ValueError(f"quantity {name!r} is unknown, expected one of {', '.join(QUANTITIES)}")
    return name
