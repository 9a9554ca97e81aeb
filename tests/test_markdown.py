"""Markdown with other people's words in it."""

import dataclasses

import pytest

from hf_gland.markdown import code_block, escaped, table


@pytest.mark.parametrize(("text", "expected"), [
    ("poorly differentiated gland_2 (2 %)", "poorly differentiated gland_2 (2 %)"),
    ("<img src=x>", "&lt;img src=x&gt;"),
    ("&lt;b>", "&amp;lt;b&gt;"),
    ("![x](y) a|b \\ `c`", "!&#91;x&#93;(y) a&#124;b &#92; &#96;c&#96;"),
    ("a\n\n# b\tc", "a # b c"),
    ("https://a.b www.c.d", "https&#58;&#47;&#47;a.b www&#46;c.d"),
])
def test_text_stays_text(text, expected):
    assert escaped(text) == expected


def test_every_text_within_is_escaped_and_nothing_else_is_touched():
    @dataclasses.dataclass(frozen=True)
    class Note:
        text: str
        number: float
        more: dict

    note = Note("<", 1.5, {"<": ["<", ("<", None)], "n": 3})
    assert escaped((note,)) == (Note("&lt;", 1.5, {"&lt;": ["&lt;", ("&lt;", None)], "n": 3}),)
    assert note.text == "<"


def test_a_table():
    assert table(["", "a"], [["x|y", 1], [None, "two\nlines"]], 1) == (
        "| | a |\n| --- | ---: |\n| x\\|y | 1 |\n| | two lines |\n")


def test_a_code_block_cannot_be_closed_from_within():
    assert code_block("a `b`", "bash") == "```bash\na `b`\n```"
    assert code_block("````\nx") == "`````\n````\nx\n`````"
