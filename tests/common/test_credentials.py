"""Secrets beside the configuration: found, missing, and never shown."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from common.config import load
from common.credentials import Credentials


class Refused(Exception):
    pass


class Server(BaseModel):
    host: str
    token: str = Field(max_length=10)
    header: dict[str, str] = {}
    key: Path | None = None


class Config(BaseModel):
    server: tuple[Server, ...]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "credentials").mkdir()
    return tmp_path / "credentials"


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "central.toml"
    path.write_text("[[server]]\nhost = 'h'\n" + text)
    return path


def test_a_credential_fills_a_value_a_part_of_one_and_a_path(tmp_path: Path, directory: Path) -> None:
    (directory / "token").write_text("s3cret\n")
    text = """
token = "${credential:token}"
header = { Authorization = "Bearer ${credential:token}" }
key = "${credential_file:token}"
"""
    server = load(config(tmp_path, text), Config, Refused, Credentials({}, directory)).server[0]
    assert server.token == "s3cret"  # noqa: S105
    assert server.header == {"Authorization": "Bearer s3cret"}
    assert server.key == directory / "token"


def test_what_the_service_manager_loaded_comes_first(tmp_path: Path, directory: Path) -> None:
    (directory / "token").write_text("at rest")
    loaded = tmp_path / "run"
    loaded.mkdir()
    (loaded / "credentials_token").write_text("loaded")
    credentials = Credentials({"CREDENTIALS_DIRECTORY": str(loaded)}, directory)
    assert (
        load(config(tmp_path, 'token = "${credential:token}"'), Config, Refused, credentials).server[0].token
        == "loaded"  # noqa: S105
    )


def test_a_missing_credential_is_named_with_its_key_and_its_places(tmp_path: Path, directory: Path) -> None:
    path = config(tmp_path, 'token = "${credential:sms}"')
    with pytest.raises(Refused) as refused:
        load(path, Config, Refused, Credentials({}, directory))
    assert str(refused.value) == f"{path}: server.0.token: credential sms: expected a file {directory}/sms"


@pytest.mark.parametrize("name", ["../shadow", "", "a/b", ".hidden"])
def test_no_name_leads_out_of_the_directory(name: str, tmp_path: Path, directory: Path) -> None:
    with pytest.raises(Refused, match="expected a file name of letters"):
        load(config(tmp_path, f'token = "${{credential:{name}}}"'), Config, Refused, Credentials({}, directory))


def test_a_faulty_secret_is_not_shown(tmp_path: Path, directory: Path) -> None:
    (directory / "token").write_text("much too long for a token")
    with pytest.raises(Refused) as refused:
        load(config(tmp_path, 'token = "${credential:token}"'), Config, Refused, Credentials({}, directory))
    assert "server.0.token: String should have at most 10 characters" in str(refused.value)
    assert "too long for a token" not in str(refused.value)
