"""The API's configuration: addresses, and the token that some of them need."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mediadht.core.errors import ConfigurationError
from mediadht_bridge.api import ApiConfig

TOKEN = "a-token-of-some-length"


def test_the_default_listens_on_loopback_without_a_token():
    config = ApiConfig()
    assert config.listen == ("127.0.0.1:8470",)
    assert config.read_token() is None
    assert config.exposed == ()


@pytest.mark.parametrize("listen", ["localhost:1", "127.9.9.9:0", "[::1]:8470", "unix:/run/api.sock"])
def test_loopback_and_unix_sockets_need_no_token(listen):
    assert ApiConfig(listen=(listen,)).exposed == ()


@pytest.mark.parametrize(
    "listen", [":8470", "0.0.0.0:8470", "[::]:0", "192.0.2.1:1", "example.org:1", "127.evil.example:1"]
)
def test_any_other_address_needs_a_token(listen, tmp_path):
    with pytest.raises(ConfigurationError, match=r"without a token: set api\.token_file"):
        ApiConfig(listen=("127.0.0.1:0", listen))
    assert ApiConfig(listen=(listen,), token=TOKEN).exposed == (listen,)
    assert ApiConfig(listen=(listen,), token_file=tmp_path / "token").exposed == (listen,)


@pytest.mark.parametrize("listen", ["8470", "host", "host:x", "::1:8470", "host:65536", "unix:api.sock", "unix:"])
def test_what_is_no_address_is_refused(listen):
    with pytest.raises(ValidationError, match="write"):
        ApiConfig(listen=(listen,))


@pytest.mark.parametrize(
    "values",
    [
        {"lisen": ("127.0.0.1:1",)},
        {"listen": ("127.0.0.1:1",) * 9},
        {"deadline_s": 0},
        {"deadline_s": 30.1},
        {"requests_max": 0},
        {"token": "short"},
        {"token": "with space in the middle"},
        {"token": "x" * 1025},
    ],
)
def test_values_out_of_bounds_are_refused(values):
    with pytest.raises(ValidationError):
        ApiConfig(**values)


def test_a_refused_token_is_not_repeated():
    with pytest.raises(ValidationError) as caught:
        ApiConfig(token="secret secret secret")
    assert "secret secret" not in str(caught.value)


def test_one_of_token_and_file():
    with pytest.raises(ConfigurationError, match="both set"):
        ApiConfig(token=TOKEN, token_file="/nowhere")


def test_a_token_is_read_from_its_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"  {TOKEN}\n")
    path.chmod(0o640)
    token = ApiConfig(token_file=path).read_token()
    assert token is not None
    assert token.get_secret_value() == TOKEN
    assert TOKEN not in repr(token)


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (None, 0, "cannot be read"),
        (TOKEN, 0o604, "chmod o="),
        ("", 0o600, "is not a bearer token"),
        ("ü" * 20, 0o600, "openssl"),
    ],
)
def test_a_token_file_that_is_not_right_is_refused(tmp_path, text, mode, why):
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(ConfigurationError, match=why):
        ApiConfig(token_file=path).read_token()
