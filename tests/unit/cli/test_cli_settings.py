"""Settings over settings, and the wording of every fault, with models of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from mediadht.cli.settings import Section, Settings, nearest, read_file, variable_of
from mediadht.core.errors import ConfigurationError


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    depth_m: int = 1


class Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    data_dir: Path = Path("/var/lib/x")
    bootstrap: tuple[str, ...] = ()
    sessions_max: Annotated[int, Field(ge=8, le=64, description="Open sessions.")] = 16
    quick: bool | None = None


class Front(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    homeserver_url: Annotated[str, Field(description="The homeserver.")]
    token: Annotated[SecretStr | None, Field(min_length=8)] = None
    level: Literal["low", "high"] = "low"
    inner: Inner = Inner()


FILE = Path("/etc/x.toml")


def settings() -> Settings:
    return Settings([Section("", Node), Section("front", Front, optional=True)])


def faults(made: Settings) -> list[str]:
    made.build("")
    made.build("front")
    with pytest.raises(ConfigurationError) as caught:
        made.raise_faults()
    return str(caught.value).splitlines()


def test_command_line_over_environment_over_file_over_default() -> None:
    made = settings()
    made.add_file(FILE, {"sessions_max": 20, "bootstrap": ["file"], "data_dir": "/file"})
    made.add_environment({"MEDIADHT_SESSIONS_MAX": "30", "MEDIADHT_BOOTSTRAP": "a, b,"}, others=())
    made.add_option("", "sessions_max", "40", "--sessions-max")
    node = made.build("")
    made.raise_faults()
    assert node == Node(sessions_max=40, bootstrap=("a", "b"), data_dir=Path("/file"))
    assert made.origin("", "sessions_max") == "option --sessions-max"
    assert made.origin("", "bootstrap") == "environment variable MEDIADHT_BOOTSTRAP"
    assert made.origin("", "data_dir") == "/etc/x.toml"
    assert made.origin("", "quick") == "default"


def test_an_empty_variable_counts_as_unset() -> None:
    made = settings()
    made.add_file(FILE, {"bootstrap": ["file"]})
    made.add_environment({"MEDIADHT_BOOTSTRAP": ""}, others=())
    assert made.build("") == Node(bootstrap=("file",))


@pytest.mark.parametrize(
    ("text", "value"),
    [("[]", ()), ('["a,b"]', ("a,b",)), ("a,b", ("a", "b")), (" a ", ("a",)), (("a", "", "b"), ("a", "b"))],
)
def test_lists_as_text(text: str | tuple[str, ...], value: tuple[str, ...]) -> None:
    made = settings()
    made.add_option("", "bootstrap", text, "--bootstrap")
    assert made.build("") == Node(bootstrap=value)


def test_optional_section_is_off_until_named() -> None:
    assert settings().build("front") is None
    made = settings()
    made.add_environment({"MEDIADHT_FRONT_HOMESERVER_URL": "http://x"}, others=())
    assert made.build("front") == Front(homeserver_url="http://x")
    made = settings()
    made.add_file(FILE, {"front": {}})
    assert faults(made) == [
        "front.homeserver_url is missing: write it below [front] in /etc/x.toml, or set MEDIADHT_FRONT_HOMESERVER_URL. "
        "It is: The homeserver."
    ]


@pytest.mark.parametrize(
    ("tables", "fault"),
    [
        ({"boostrap": []}, "/etc/x.toml: unknown key boostrap: the nearest known one is bootstrap"),
        ({"frond": {}}, "/etc/x.toml: unknown section [frond]: the nearest known one is front"),
        ({"homeserver_url": "x"}, "/etc/x.toml: homeserver_url stands at the top of the file: write it below [front]"),
        ({"front": 3}, "/etc/x.toml: front is a section: write [front], and its keys below it"),
        (
            {"zzz": 1},
            "/etc/x.toml: unknown key zzz: the nearest known one is sessions_max, of bootstrap, data_dir, front, "
            "quick, sessions_max",
        ),
        (
            {"front": {"homeserver_url": "x", "levle": "low"}},
            "/etc/x.toml: unknown key levle in [front]: the nearest known one is level",
        ),
        (
            {"front": {"homeserver_url": "x", "inner": {"dept_m": 1}}},
            "/etc/x.toml: unknown key dept_m in [front.inner]: the nearest known one is depth_m",
        ),
    ],
)
def test_unknown_keys_name_the_nearest(tables: dict[str, object], fault: str) -> None:
    made = settings()
    made.add_file(FILE, tables)
    assert faults(made) == [fault]


def test_unknown_variables_name_the_nearest() -> None:
    made = settings()
    made.add_environment(
        {
            "MEDIADHT_FRONT_HOMESERVERURL": "x",
            "MEDIADHT_LOOKUP_JSON": "1",
            "MEDIADHT_FEED_X": "1",
            "MEDIADHT_SERVICE_HOST": "10.0.0.1",
            "MEDIADHT_PORT": "tcp://10.0.0.1:80",
            "MEDIADHT_PORT_80_TCP_ADDR": "10.0.0.1",
            "OTHER": "x",
        },
        others={"MEDIADHT_LOOKUP_JSON"},
        ignore_prefixes=["MEDIADHT_FEED_"],
    )
    assert faults(made) == [
        "unknown environment variable MEDIADHT_FRONT_HOMESERVERURL: the nearest known one is "
        "MEDIADHT_FRONT_HOMESERVER_URL"
    ]


@pytest.mark.parametrize(
    ("tables", "fault"),
    [
        (
            {"sessions_max": 2},
            "sessions_max = 2 (/etc/x.toml): it must be greater than or equal to 8. It is: Open sessions.",
        ),
        (
            {"sessions_max": "many"},
            'sessions_max = "many" (/etc/x.toml): it must be a valid integer, unable to parse string as an integer: '
            "write a whole number. It is: Open sessions.",
        ),
        ({"bootstrap": "ws://x"}, 'bootstrap = "ws://x" (/etc/x.toml): it must be a list: write ["ws://x"]'),
        (
            {"quick": "perhaps"},
            'quick = "perhaps" (/etc/x.toml): it must be a valid boolean, unable to interpret input: '
            "write true or false",
        ),
        (
            {"front": {"homeserver_url": "x", "level": "middle"}},
            "front.level = \"middle\" (/etc/x.toml): it must be 'low' or 'high'",
        ),
    ],
)
def test_wrong_values_say_key_value_origin_and_what_to_write(tables: dict[str, object], fault: str) -> None:
    made = settings()
    made.add_file(FILE, tables)
    assert faults(made) == [fault]


def test_a_secret_is_never_shown() -> None:
    made = settings()
    made.add_file(FILE, {"front": {"homeserver_url": "x", "token": "hush"}})
    [fault] = faults(made)
    assert fault.startswith("front.token (/etc/x.toml): ")
    assert "hush" not in fault


def test_every_fault_is_told_at_once() -> None:
    made = settings()
    made.add_file(FILE, {"boostrap": 1, "sessions_max": 1})
    made.add_environment({"MEDIADHT_QUICK": "x"}, others=())
    made.add_option("front", "inner", "no json", "--inner")
    told = faults(made)
    assert [fault.split()[0] for fault in told] == [
        "/etc/x.toml:",
        "front.inner",
        "sessions_max",
        "quick",
        "front.homeserver_url",
    ]


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=5))
def test_nearest_always_names_a_known_one(word: str, known: list[str]) -> None:
    assert any(one in nearest(word, known) for one in known)


def test_variable_names() -> None:
    assert variable_of("", "data_dir") == "MEDIADHT_DATA_DIR"
    assert variable_of("api", "listen") == "MEDIADHT_API_LISTEN"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"a = ", "not TOML: Invalid value (at end of document)"),
        (b'a = "\xff"', "byte 5 is not UTF-8"),
        (b"#" * (1 << 20) + b"#", "larger than 1 MiB"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        read_file(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"#" * (1 << 20))
    assert read_file(path) == {}
