"""What central may put into a configuration, and what a gateway adds from its own file."""

import pytest

from wire.configuration import MAX_TEXT, carried, completed
from wire.errors import WireError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "not TOML"),
        ("gateway = {}", "gateway: found, expected none"),
        ("[clock]\n[mqtt]\n[journal]\n", "clock, journal, mqtt: found"),
        ('[outputs.sms]\npin = "1234"\n', "outputs.sms.pin: found"),
        ('[[network_server]]\nname = "a"\n[[network_server]]\npassword = "x"\n', "network_server.password: found"),
        ('[[station]]\nname = "${credential:sim-pin}"\n', "secrets stay on the gateway"),
        ('[[station]]\nrule = [{ id = "$\\u007bcredential_file:a}" }]\n', "secrets stay on the gateway"),
        ("#" * (MAX_TEXT + 1), "expected at most"),
    ],
)
def test_what_is_not_carried_is_refused(text, said):
    with pytest.raises(WireError, match=said):
        carried(text)


def test_the_gateway_adds_what_is_its_own():
    own = {
        "gateway": {"id": "gw"},
        "mqtt": {"host": "b"},
        "page": {"listen": ":1"},
        "outputs": {"sms": {"port": "/dev/a", "pin": "1234"}},
        "network_server": [{"name": "cs", "password": "secret"}, {"name": "gone", "password": "other"}],
    }
    sent = {
        "outputs": {"siren": {"pin": 17}, "sms": {"port": "/dev/b"}},
        "network_server": [{"name": "cs", "url": "u"}, {"name": "new"}],
    }
    assert completed(sent, own) == {
        "gateway": {"id": "gw"},
        "mqtt": {"host": "b"},
        "outputs": {"siren": {"pin": 17}, "sms": {"port": "/dev/b", "pin": "1234"}},
        "network_server": [{"name": "cs", "url": "u", "password": "secret"}, {"name": "new"}],
    }
    assert completed({}, own) == {"gateway": {"id": "gw"}, "mqtt": {"host": "b"}}
