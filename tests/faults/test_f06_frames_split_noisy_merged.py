"""F6: frames that pause in their middle, noise between them and in them, two frames in one piece."""

import random
from pathlib import Path

import pytest

from edge.emulators.trouble import Trouble
from tests import servers
from tests.chain import FULL, Account
from tests.faults.lines import Lines, driver_of, sds011, values
from tests.faults.scene import scene

pytestmark = pytest.mark.system

PAUSE_S = 1.6

BEFORE = {"maxbotix": b"R2345\r", "sds011": sds011(7.8, 9.1)}
SPLIT = {"maxbotix": b"R1234\r", "sds011": sds011(12.3, 45.6)}
AFTER = {"maxbotix": b"R3456\r", "sds011": sds011(99.9, 0.1)}
READ = {
    "maxbotix": {"water_level": (1.976, 3.087, 0.865)},
    "sds011": {"pm2_5": (7.8, 12.3, 99.9), "pm10": (9.1, 45.6, 0.1)},
}
"""What is to be read of the three, with the probe at 4.321 m."""


@pytest.mark.timeout(240)
def test_a_frame_split_by_a_long_pause_gives_one_right_reading_or_none(tmp_path: Path, account: Account) -> None:
    """A pause at every possible place of two devices' frames, each on a line of its own."""
    places = [(driver, at) for driver, frame in SPLIT.items() for at in range(1, len(frame))]
    account.of(
        f"frames that pause in their middle, at each of {len(places)} places of two devices' frames", f"{PAUSE_S} s"
    )
    with (
        Lines(tmp_path, [f"{driver}-{at}" for driver, at in places]) as lines,
        scene(tmp_path, sensors=lines.sensors) as it,
    ):

        def arrived(which: int) -> bool:
            lines.send((BEFORE, SPLIT, AFTER)[which])
            it.chain.device.pause(0.2)  # the devices' own rhythm
            return all(
                expected[which] in values(it.chain, name, quantity)
                for name in lines.devices
                for quantity, expected in READ[driver_of(name)].items()
            )

        servers.wait_until(lambda: arrived(0), 30, "every line is read")
        for driver, at in places:
            assert lines.devices[f"{driver}-{at}"].write(SPLIT[driver][:at])
        it.chain.device.pause(PAUSE_S)
        for driver, at in places:
            assert lines.devices[f"{driver}-{at}"].write(SPLIT[driver][at:])
        with account.recovery():
            servers.wait_until(lambda: arrived(2), 30, "every line is read again")
        it.finish(account)
        found = {
            (name, quantity): (values(it.chain, name, quantity), expected)
            for name in lines.devices
            for quantity, expected in READ[driver_of(name)].items()
        }
    account.count(
        injected=len(places),
        lost=None,
        doubled=sum(max(0, got.count(expected[1]) - 1) for got, expected in found.values()),
        invented=sum(1 for got, expected in found.values() for value in got if value not in expected),
    )
    assert (account.doubled, account.invented) == (0, 0), found


@pytest.mark.timeout(300)
def test_noise_and_merged_frames_give_right_readings_or_none(tmp_path: Path, account: Account) -> None:
    """Random bytes before frames and single bits inverted in them where a sum tells; halves and pairs where none does."""
    frames = 1500 if FULL else 150
    account.of(
        "half of the frames behind noise, a fifth with a wrong bit (SDS011); merged with the next, or cut off by it (MB7389)",
        f"{2 * frames} frames",
    )
    rng = random.Random(1956)
    with Lines(tmp_path, ["sds011-noise", "maxbotix-merged"]) as lines, scene(tmp_path, sensors=lines.sensors) as it:
        servers.wait_until(lambda: _both_read(lines, it.chain), 30, "both lines are read")
        dust, water = lines.devices["sds011-noise"], lines.devices["maxbotix-merged"]
        dust.trouble = Trouble(noise=0.5, corrupt=0.2, seed=1956)
        sent_dust: list[float] = []
        whole_dust = 0
        sent_water: list[float] = []
        for i in range(frames):
            it.chain.device.pause(0.02)
            whole_dust += dust.write(sds011(i / 10, 0.1))
            sent_dust.append(i / 10)
            mm = 1000 + 2 * i
            one, next_one = b"R%04d\r" % mm, b"R%04d\r" % (mm + 1)
            sent_water += [round(4.321 - mm / 1000, 4), round(4.321 - (mm + 1) / 1000, 4)]
            # Two at once, or the second cuts the first off.
            water.write(one + next_one if i % 2 else one[: rng.randrange(1, 5)] + next_one)
        dust.trouble = Trouble()
        with account.recovery():
            servers.wait_until(lambda: _both_read(lines, it.chain), 30, "both lines are read again")
        it.finish(account)
        got_dust = [v for v in values(it.chain, "sds011-noise", "pm2_5") if v != MARK[0]]
        got_water = [v for v in values(it.chain, "maxbotix-merged", "water_level") if v != MARK[1]]
    account.count(
        injected=2 * frames,
        lost=None,  # a frame with a wrong bit is none
        doubled=len(got_dust) + len(got_water) - len(set(got_dust)) - len(set(got_water)),
        invented=len(set(got_dust) - set(sent_dust)) + len(set(got_water) - set(sent_water)),
    )
    assert (account.doubled, account.invented) == (0, 0), (got_dust, got_water)
    assert len(got_dust) >= 0.9 * whole_dust, "a whole frame is read behind noise"
    assert len(got_water) >= frames, "of two that are merged one at least"


MARK = 777.7, 0.321


def _both_read(lines: Lines, chain) -> bool:
    lines.send({"sds011": sds011(MARK[0], 0.1), "maxbotix": b"R4000\r"})
    chain.device.pause(0.1)
    return (
        MARK[0] in values(chain, "sds011-noise", "pm2_5")[-1:]
        and MARK[1] in values(chain, "maxbotix-merged", "water_level")[-1:]
    )
