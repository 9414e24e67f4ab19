"""The table of quantities. Values are stored in exactly these units; drivers convert, nobody else does.

Units are SenML symbols (RFC 8428 section 12.1, RFC 8798); `cf` is the CF standard name (CF Standard Name Table), None
where CF has none.
"""

from typing import NamedTuple


class Quantity(NamedTuple):
    """One row of the table. `decimals` is how many a person is shown; it rounds nothing that is stored."""

    name: str
    unit: str
    cf: str | None
    label_fr: str
    decimals: int


_TABLE = (
    Quantity("water_level", "m", "water_surface_height_above_reference_datum", "Niveau d'eau", 2),
    Quantity("water_distance", "m", None, "Distance à l'eau", 2),
    Quantity("water_temperature", "Cel", "water_temperature", "Température de l'eau", 1),
    Quantity("water_pressure", "hPa", "sea_water_pressure", "Pression de l'eau", 1),
    Quantity("rainfall", "mm", "thickness_of_rainfall_amount", "Pluie", 1),
    Quantity("air_temperature", "Cel", "air_temperature", "Température de l'air", 1),
    Quantity("relative_humidity", "%RH", "relative_humidity", "Humidité relative", 0),
    Quantity("air_pressure", "hPa", "air_pressure", "Pression de l'air", 0),
    Quantity("pm1", "ug/m3", "mass_concentration_of_pm1_ambient_aerosol_particles_in_air", "PM1", 1),
    Quantity("pm2_5", "ug/m3", "mass_concentration_of_pm2p5_ambient_aerosol_particles_in_air", "PM2,5", 1),
    Quantity("pm4", "ug/m3", None, "PM4", 1),
    Quantity("pm10", "ug/m3", "mass_concentration_of_pm10_ambient_aerosol_particles_in_air", "PM10", 1),
    Quantity("no2", "ug/m3", "mass_concentration_of_nitrogen_dioxide_in_air", "NO2", 0),
    Quantity("o3", "ug/m3", "mass_concentration_of_ozone_in_air", "O3", 0),
    Quantity("no2_ppm", "ppm", "mole_fraction_of_nitrogen_dioxide_in_air", "NO2 (ppm)", 3),
    Quantity("o3_ppm", "ppm", "mole_fraction_of_ozone_in_air", "O3 (ppm)", 3),
    Quantity("co2", "ppm", "mole_fraction_of_carbon_dioxide_in_air", "CO2", 0),
    Quantity("battery_voltage", "V", None, "Tension de la batterie", 2),
    Quantity("battery_level", "%EL", None, "Charge de la batterie", 0),
    Quantity("rssi", "dBm", None, "Signal radio (RSSI)", 0),
    Quantity("snr", "dB", None, "Signal radio (SNR)", 1),
)

QUANTITIES: dict[str, Quantity] = {q.name: q for q in _TABLE}
