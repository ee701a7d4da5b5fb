"""A form is sent in pieces, as often as needed, with a size that is known before."""

import io
import os
from email import message_from_bytes

from dagferry_client.form import Form

FILE = os.urandom(700_000)


def parts(form: Form) -> list[tuple[str, str | None, bytes]]:
    """What an independent parser reads of a form."""
    whole = b"Content-Type: " + form.content_type.encode() + b"\r\n\r\n" + b"".join(form)
    return [
        (part.get_param("name", header="Content-Disposition"), part.get_filename(), part.get_payload(decode=True))
        for part in message_from_bytes(whole).get_payload()
    ]


def test_fields_come_before_the_file() -> None:
    form = Form({"description": "für\nmich", "removed": '["a"]'}, "dags.tar.zst", io.BytesIO(b"content"))
    assert parts(form) == [
        ("description", None, "für\nmich".encode()),
        ("removed", None, b'["a"]'),
        ("dags.tar.zst", "dags.tar.zst", b"content"),
    ]


def test_it_has_the_size_that_it_says_and_can_be_sent_again() -> None:
    seen: list[int] = []
    form = Form({}, "f", io.BytesIO(FILE), seen.append)
    first = b"".join(form)
    assert len(first) == len(form)
    assert FILE in first
    assert (seen[0], seen[-1]) == (256 << 10, len(FILE))
    assert b"".join(form) == first
    assert seen[len(seen) // 2 :] == seen[: len(seen) // 2]


def test_no_more_than_a_piece_is_in_memory() -> None:
    assert max(map(len, Form({}, "f", io.BytesIO(FILE)))) == 256 << 10


def test_two_forms_have_different_boundaries() -> None:
    assert Form({}, "f", io.BytesIO()).content_type != Form({}, "f", io.BytesIO()).content_type
