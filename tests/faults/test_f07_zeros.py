"""F7: a device sends zeros. Zero is a value: it is stored as such, and judged as such."""

from pathlib import Path

import pytest

from tests import servers
from tests.chain import Account
from tests.faults.lines import Lines, sds011, values
from tests.faults.scene import scene

pytestmark = pytest.mark.system

ZERO = {"maxbotix": b"R4321\r", "sds011": sds011(0, 0.2)}  # an SDS011 says 0, 0 while it warms up
BEFORE = {"maxbotix": b"R4319\r", "sds011": sds011(3, 4)}
ONE = {"maxbotix": b"R4320\r", "sds011": sds011(1, 2)}
"""Near zero: a jump of a metre would be a spike, of which no rule hears."""

LOW = """
[[station.rule]]
id = "dry"
kind = "low"
sensor = "maxbotix-zero"
quantity = "water_level"
levels = [0.0005]
deadband = 0.0002
"""


@pytest.mark.timeout(240)
def test_zeros_arrive_as_zeros_and_are_judged(tmp_path: Path, account: Account) -> None:
    account.of("a level of 0 m and fine dust of 0 ug/m3 among other values, with an alarm at low water", "20 frames")
    with Lines(tmp_path, ["maxbotix-zero", "sds011-zero"]) as lines, scene(tmp_path, sensors=lines.sensors + LOW) as it:

        def stored() -> dict[str, list[float]]:
            level, dust = values(it.chain, "maxbotix-zero", "water_level"), values(it.chain, "sds011-zero", "pm2_5")
            return {"water_level": [v for v in level if v != 0.002], "pm2_5": [v for v in dust if v != 3.0]}

        def read() -> bool:
            lines.send(BEFORE)
            it.chain.device.pause(0.1)
            return bool(values(it.chain, "maxbotix-zero", "water_level") and values(it.chain, "sds011-zero", "pm2_5"))

        servers.wait_until(read, 30, "both lines are read")
        for i in range(20):
            lines.send(ONE if i % 4 == 3 else ZERO)
            it.chain.device.pause(0.1)
        with account.alarm():
            servers.wait_until(lambda: it.chain.edge.said("alarm dry: raise") > 0, 10, "the alarm at low water")
        with account.recovery():
            servers.wait_until(lambda: all(len(got) >= 20 for got in stored().values()), 20, "all stored")
        it.finish(account)
        zeros = [i % 4 != 3 for i in range(20)]
        expected = {
            "water_level": [0.0 if zero else 0.001 for zero in zeros],
            "pm2_5": [0.0 if zero else 1.0 for zero in zeros],
        }
        after = stored()
    wrong = sum(got != expected[quantity] for quantity, got in after.items())
    account.count(injected=40, lost=sum(abs(got.count(0.0) - 15) for got in after.values()), invented=wrong)
    assert after == expected
