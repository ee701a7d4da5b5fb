"""A source is decoded as Python does it, and where Python cannot, the place is named."""

import codecs
import subprocess
import sys
from pathlib import Path

import pytest

from dagferry_gate.encoding import Undecodable, to_utf8

UMLAUT = "x = 'ä'\n"
READABLE = {
    "nothing": b"",
    "ascii": b"x = 1\n",
    "utf-8": UMLAUT.encode(),
    "a byte order mark": codecs.BOM_UTF8 + UMLAUT.encode(),
    "a byte order mark and its cookie": codecs.BOM_UTF8 + b"# coding: utf-8\n" + UMLAUT.encode(),
    "latin-1": b"# -*- coding: latin-1 -*-\n" + UMLAUT.encode("latin-1"),
    "vim": b"#!/usr/bin/python\n# vim: set fileencoding=iso-8859-15 :\n" + UMLAUT.encode("iso-8859-15"),
    "cp1252": b"\n#coding=cp1252\nx = '\x80'\n",
    "gbk": b"# coding: gbk\n" + "x = '中'\n".encode("gbk"),
    "shift_jis": b"# coding: shift_jis\n" + "x = '表'\n".encode("shift_jis"),
    "utf_8 with another name": b"# coding: UTF_8\n" + UMLAUT.encode(),
    "utf-8-sig": b"# coding: utf-8-sig\n" + UMLAUT.encode(),
    "latin-1 with the name of a line end": b"# coding: latin-1-unix\nx = 1\n",
    "other bytes in comments": b"# \xff\nx = 1  # \xe4\xf6\r#\xe4",
    "a cookie in the third line": b"\n\n# coding: latin-1\n" + UMLAUT.encode(),
    "a cookie after code": b"x = 1\n# coding: latin-1\n" + UMLAUT.encode(),
    "a cookie in a string": b"x = 1, '# coding: nope'[:2]\n",
    "a cookie after a form feed": b"\x0c# coding: latin-1\n" + UMLAUT.encode("latin-1"),
    "old line ends": b"#\r# coding: latin-1\r" + UMLAUT.encode("latin-1"),
    "windows line ends": b"#\r\n# coding: latin-1\r\n" + UMLAUT.encode("latin-1"),
}
UNREADABLE = {
    "bad utf-8": (b"x = 1\ny = '\xe4'\n", 2, 6),
    "bad utf-8 after a comment": (b"# \xe4\nx = '\xe4'\n", 2, 6),
    "bad utf-8 after a number sign in a string": (b"x = '# \xe4'\n", 1, 8),
    "after letters of two bytes": ("ä = 'ö".encode() + b"\xff'", 1, 7),
    "a surrogate": (b"x = '\xed\xa0\x80'", 1, 6),
    "an overlong form": (b"x = '\xc0\xaf'", 1, 6),
    "a cookie that lies": (b"# coding: ascii\nx = '\xe4'\n", 2, 6),
    "a cookie of another byte order mark": (codecs.BOM_UTF8 + b"# coding: latin-1\n", 1, 1),
    "an unknown cookie": (b"#\n# coding: nope\n", 2, 1),
    "a codec of bytes": (b"# coding: hex\n78\n", 1, 1),
    "a codec of text": (b"# coding: rot13\nk = 1\n", 1, 1),
    "utf-16": (b"# coding: utf-16\n" + UMLAUT.encode("utf-16"), 1, 1),
    "a byte order mark of utf-16": (codecs.BOM_UTF16_LE + UMLAUT.encode("utf-16-le"), 1, 1),
    "a null byte": (b"x = 1\r\ny =\0 2\n", 2, 4),
    "a null byte after bad utf-8": (b"\xff\n\0", 1, 1),
    "a null byte in latin-1": (b"# coding: latin-1\n'\xe4\0'", 2, 3),
    "a null byte at the end": (b"x = 1\n\0", 2, 1),
}


@pytest.mark.parametrize("name", READABLE)
def test_what_python_reads_is_the_same_text_in_utf8(name) -> None:
    source = READABLE[name]
    found = to_utf8(source)
    assert isinstance(found, bytes)
    seen: dict[str, object] = {}
    exec(compile(source, name, "exec"), seen)
    meant: dict[str, object] = {}
    text = found.decode().replace("coding", "kind")
    exec(compile(text, name, "exec"), meant)
    assert seen.get("x") == meant.get("x")


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_python_cannot_read_is_named_with_its_place(name, tmp_path: Path) -> None:
    source, line, column = UNREADABLE[name]
    found = to_utf8(source)
    assert isinstance(found, Undecodable)
    assert (found.line, found.column) == (line, column)
    (tmp_path / "it.py").write_bytes(source)
    ran = subprocess.run([sys.executable, "-c", "import it"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "SyntaxError" in ran.stderr or "null bytes" in ran.stderr


@pytest.mark.parametrize("codec", ["punycode", "idna", "unicode_escape", "utf-7"])
def test_codecs_that_take_quadratic_time_or_hide_code_are_not_used(codec) -> None:
    found = to_utf8(f"# coding: {codec}\n".encode() + b"a" * 10_000_000)
    assert isinstance(found, Undecodable)
    assert "unknown" in found.message


def test_lines_and_characters_stay_where_they_are() -> None:
    source = b"# coding: latin-1\r\nx = '\xe4' + \xf6\n"
    found = to_utf8(source)
    assert isinstance(found, bytes)
    assert found.decode() == source.decode("latin-1")


@pytest.mark.parametrize("name", [b"a" * 5000, b"..", b"../../x", b"os.path", b"\xe4", b"-"])
def test_a_strange_name_is_an_unknown_encoding_in_one_short_line(name) -> None:
    found = to_utf8(b"# coding: " + name + b"\nx = 1\n")
    if isinstance(found, Undecodable):
        assert found.message.isprintable()
        assert len(found.message) < 300
