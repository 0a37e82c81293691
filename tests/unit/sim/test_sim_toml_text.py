"""The line of each key, against what `tomllib` reads; and tables written as TOML, read back."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediadht_sim.toml_text import KeyPath, line_of, lines_of, write_toml

_keys = st.one_of(
    st.text("abcXYZ019_-", min_size=1, max_size=5), st.text(st.characters(codec="utf-8"), min_size=0, max_size=4)
)
_texts = st.text(st.characters(codec="utf-8"), max_size=12)
_scalars = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False), st.booleans(), _texts)
_inner = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_keys, inner, max_size=3)),
    max_leaves=8,
)
_tables = st.dictionaries(
    _keys,
    st.one_of(_inner, st.dictionaries(_keys, _inner, max_size=3), st.lists(st.dictionaries(_keys, _inner), max_size=3)),
    max_size=5,
)


def _paths(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(inner for key, item in pairs for inner in _paths(item, (*path, key)))]


@given(_tables)
def test_what_is_written_is_read_back_and_every_key_has_its_line(tables: dict[str, Any]) -> None:
    text = write_toml(tables)
    assert tomllib.loads(text) == tables
    lines = lines_of(text)
    assert sorted(lines, key=repr) == sorted(_paths(tables), key=repr)
    rows = text.split("\n")
    for path, line in lines.items():
        key = next(part for part in reversed(path) if isinstance(part, str))
        assert key in rows[line - 1] or json.dumps(key, ensure_ascii=False).replace("\x7f", "\\u007f") in rows[line - 1]


_PIECES = (
    "a{n} = 1",
    'b{n}.c."d e".\'f\' = [1, [2,\n # ] "\n  3], {{x = 1, y.z = 2}},\n]',
    's{n} = """one \\" " ""\\"\n[no]\nkey = "no"""""',
    "l{n} = '''\n[[no]]\n'''''",
    "e{n} = ''  # 'x",
    "d{n} = 1979-05-27 07:32:00Z # [no]",
    'q{n} = "a # \\" ] [b"',
    "",
    '# comment = 1 ["',
    "[t{n}]",
    '[ t{n} . "u.v" ]# c',
    "[[r{n}]]",
    "[[r.r]]",
    "[r.r.inner{n}]",
    '  [[ r . "r" . deep{n} ]]\n  k = {{}}',
)


@given(st.lists(st.sampled_from(_PIECES), max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_handwritten_forms_have_the_keys_that_tomllib_finds(pieces: list[str], newline: str) -> None:
    text = "".join(piece.format(n=number) + "\n" for number, piece in enumerate(pieces)).replace("\n", newline)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert sorted(lines_of(text), key=repr) == sorted(_paths(tables), key=repr)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 1),
        (("network",), 3),
        (("network", "nodes"), 4),
        (("workloads",), 6),
        (("workloads", 0, "kind"), 7),
        (("workloads", 1), 9),
        (("workloads", 1, "kind"), 10),
        (("workloads", 1, "missing"), 9),
        (("lives", "session", "mean_s"), 13),
        (("other", "events", 2, "at_s", 0), 17),
        (("nowhere",), 1),
    ],
)
def test_lines(path: KeyPath, line: int) -> None:
    text = (
        'name = "x"\n\n[network]\nnodes = 5\n\n[[workloads]]\nkind = "mix"\n\n[[workloads]]\nkind = "zipf"\n\n[lives]\n'
        'session = {kind = "exponential", mean_s = 3}\n\n[other]\nevents = [\n  {at_s = 1}, [], {at_s = [2]},\n]\n'
    )
    assert line_of(lines_of(text), path) == line
