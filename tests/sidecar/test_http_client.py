"""The sidecar parses headers as email does, and imports neither email nor ssl at start."""

import subprocess
import sys
from email.message import Message
from email.parser import Parser as EmailParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagferry_sidecar.http_client import Headers, Parser

BLOCKS = [
    "",
    "\r\n",
    "Content-Type: application/json\r\n\r\n",
    'content-length:12\r\nETag:  "v-1"\t \r\n\r\n',
    "A: 1\r\nB: 2\r\nA: 3\r\n\r\n",
    "Folded: one\r\n two\r\n\tthree\r\nNext: x\r\n\r\n",
    "A: 1\nB: 2\rC: 3\n\n",
    "A: 1\r\nno colon here\r\nB: 2\r\n\r\n",
    "A: 1\r\nwith space: 2\r\nB: 3\r\n\r\n",
    "A: 1\r\n\r\nB: 2\r\n\r\n",
    "Empty:\r\nX: é\xa0\r\n\r\n",
    "A: 1\r\n: nameless\r\n folded\r\nB: 2\r\n\r\n",
    " folded first\r\nA: 1\r\n\r\n",
    "A: 1\r\nFrom x\r\nB: 2\r\n\r\n",
    "A: 1",
]


def both(text: str) -> tuple[Headers, Message]:
    return Parser(Headers).parsestr(text), EmailParser(Message).parsestr(text)


@pytest.mark.parametrize("text", BLOCKS)
def test_headers_are_those_that_email_finds(text: str) -> None:
    ours, theirs = both(text)
    assert ours.items() == theirs.items()
    assert ours.keys() == theirs.keys()


NAMES = st.text(st.sampled_from("abcXYZ-!~9;"), min_size=1, max_size=8)
VALUES = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85"), max_size=12)


@given(st.lists(st.tuples(NAMES, VALUES, st.sampled_from(["\r\n", "\r\n\t", "\r\n  "])), max_size=6))
def test_so_are_any_names_and_values(headers: list[tuple[str, str, str]]) -> None:
    text = "".join(f"{name}: {value}{end}" for name, value, end in headers) + "end\r\n\r\n"
    ours, theirs = both(text)
    assert ours.items() == theirs.items()


def test_a_name_is_found_whatever_its_case_and_the_first_value_counts() -> None:
    headers = Parser(Headers).parsestr("ETag: 1\r\nX: 2\r\netag: 3\r\n\r\n")
    assert headers.get("etag") == headers["ETAG"] == "1"
    assert headers.get_all("Etag") == ["1", "3"]
    assert "x" in headers
    assert "y" not in headers
    assert headers.get("Y", "none") == "none"
    assert headers.get_all("Y") is None


def test_the_sidecar_imports_neither_and_others_find_the_real_ones() -> None:
    code = (
        "import sys; from dagferry_sidecar.http_client import import_http_client; import_http_client();"
        "import http.client; assert not {'ssl', 'email'} & set(sys.modules);"
        "import ssl, email.message; assert ssl.SSLContext; print(email.message.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("message.py")
