"""The line of every key of a TOML text."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pglido.config.toml_lines import lines_of


def test_lines_of_all_kinds_of_keys() -> None:
    text = '''\
# a comment with [brackets] = "and quotes
top = """
not.a = key
[not.a.table]
"""  # more
[a]
b.c = 1
"quoted key" = 'x'
list = [ # one
    "],",
    { not = "noted" },
]
in = { x = 1, y = { z = [2] },
w = "}" }
["d.e" . f]
g = \'\'\'
'''.replace("in = { x = 1, y = { z = [2] },\nw", "in = { x = 1, y = { z = [2] }, w")
    text += "'''\nh=1\r\n[[arr]]\nk = 2979-01-01\n"
    assert lines_of(text) == {
        ("top",): 2,
        ("a",): 6,
        ("a", "b"): 7,
        ("a", "b", "c"): 7,
        ("a", "quoted key"): 8,
        ("a", "list"): 9,
        ("a", "in"): 13,
        ("a", "in", "x"): 13,
        ("a", "in", "y"): 13,
        ("a", "in", "y", "z"): 13,
        ("a", "in", "w"): 13,
        ("d.e",): 14,
        ("d.e", "f"): 14,
        ("d.e", "f", "g"): 15,
        ("d.e", "f", "h"): 17,
        ("arr",): 18,
        ("arr", "k"): 19,
    }


_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
_LEAF = st.one_of(
    st.integers(-9, 10**6).map(str),
    st.sampled_from(["true", "1.5", "inf", "2020-01-01", '"""\n"quoted" \\""""', "'''\n''\n'''", '""', "''"]),
    _TEXT.map(lambda t: "'" + t.replace("'", "") + "'"),
    _TEXT.map(lambda t: '"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"'),
)
_KEY = st.one_of(st.sampled_from("abc"), _TEXT.map(lambda t: "'" + t.replace("'", "") + "'"))
_VALUE = st.recursive(
    _LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n# ]\n" + ",\n".join(items) + "]"),
        st.dictionaries(_KEY, inner, max_size=3).map(
            lambda d: "{" + ", ".join(f"{k} = {v}" for k, v in d.items()) + "}"
        ),
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(_KEY, _VALUE), max_size=6), st.lists(st.tuples(_KEY, _VALUE), max_size=4))
def test_every_key_is_found_where_it_was_put(top, table) -> None:
    text, where = "", {}
    for prefix, pairs in (((), top), (("t a",), table)):
        if prefix:
            text += '["t a"] # [x]\n'
        for key, value in pairs:
            where[(*prefix, _bare(key))] = text.count("\n") + 1
            text += f"{key} = {value} # '\n"
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = lines_of(text)
    assert {path: found.get(path) for path in where} == where
    assert set(_paths(tree, ())) == {path for path in found if _is_key(tree, path)}


def _bare(key: str) -> str:
    return key.strip("'") if key.startswith("'") else key


def _paths(tree: dict[str, Any], prefix: tuple[str, ...]):
    for key, value in tree.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, key))


def _is_key(tree: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        tree = tree[part]
    return True


@given(st.text(st.sampled_from("[]{}=\"'\\\n,.#a ")))
def test_no_text_hangs_or_breaks_it(text: str) -> None:
    lines_of(text)
