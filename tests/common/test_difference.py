"""What a person changes in a configuration, as lines."""

import pytest

from common.difference import differences

OLD = {
    "gateway": {"id": "gw"},
    "station": [
        {
            "id": "huy",
            "sensor": [{"id": "level", "period_s": 60, "level": {"mounting_height_m": 4.2}}],
            "rule": [{"id": "high", "levels": [1.2, 1.8]}],
        }
    ],
    "outputs": {"sms": {"port": "/dev/a", "pin": "1234", "recipient": [{"id": "me", "phone": "+321", "hours": []}]}},
}


def changed(**deep):
    """OLD with other values at `a__0__b`."""
    import copy

    found = copy.deepcopy(OLD)
    for path, value in deep.items():
        *parents, last = [int(p) if p.isdecimal() else p for p in path.split("__")]
        place = found
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return found


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (changed(), []),
        (changed(station__0__rule__0__levels=[1.2, 2.0]), ["station huy, rule high: levels: 1.2, 1.8 -> 1.2, 2"]),
        (changed(station__0__sensor__0__period_s=0), ["station huy, sensor level: period_s: 60 -> 0"]),
        (changed(station__0__sensor__0__period_s=None), ["station huy, sensor level: period_s: 60 -> none"]),
        (
            changed(station__0__sensor__0__level={"mounting_height_m": 4.5}),
            ["station huy, sensor level, level: mounting_height_m: 4.2 -> 4.5"],
        ),
        (changed(station__0__rule=[]), ["station huy, rule high: gone"]),
        (
            changed(station__0__rule=[OLD["station"][0]["rule"][0], {"id": "rise", "levels": [0.3], "latching": True}]),
            ["station huy, rule rise: new: levels 0.3, latching true"],
        ),
        (changed(outputs__sms__pin="9999"), ["outputs, sms: pin: changed"]),
        (changed(outputs__sms__pin=None), ["outputs, sms: pin: gone"]),
        (changed(page={"listen": ":1"}), ["page: none -> { listen = :1 }"]),
        (changed(gateway__id=0), ["gateway: id: gw -> 0"]),
    ],
)
def test_each_change_is_a_line(new, lines):
    assert differences(OLD, new) == lines


def test_zero_false_and_absent_are_three_things():
    assert differences({"a": 0}, {"a": 0.0}) == []
    assert differences({"a": 0}, {"a": False}) == ["a: 0 -> false"]
    assert differences({"a": False}, {}) == ["a: false -> none"]
