"""How messages are signed: as the specification "Standard Webhooks" says, and as the docs show it."""

import re
import time

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.webhooks.signing import secret_bytes, signature_headers
from pages import DOCS


def test_the_signature_is_that_of_the_example_in_the_specification() -> None:
    secret = secret_bytes(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "file")
    headers = signature_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_is_text_or_base64() -> None:
    assert secret_bytes(b"  sixteen letters!\n", "file") == b"sixteen letters!"
    assert secret_bytes(b"whsec_c2l4dGVlbiBsZXR0ZXJzIQ==", "file") == b"sixteen letters!"


@pytest.mark.parametrize("content", [b"", b"\n", b"fifteen letters", b"whsec_", b"whsec_c2l4dGVlbg==", b"whsec_***"])
def test_what_is_no_secret_is_refused_and_not_shown(content) -> None:
    with pytest.raises(SetupError, match="the/file") as caught:
        secret_bytes(content, "the/file")
    assert (
        not content.strip()
        or content.decode().strip().removeprefix("whsec_")[:4] not in caught.value.message
        or (content == b"whsec_")
    )


def documented():
    """The function that the docs show to receivers."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "how-to/webhooks.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    return names["verify"]


def test_the_documented_code_accepts_what_is_signed_and_nothing_else() -> None:
    verify, secret, now = documented(), b"sixteen letters!", int(time.time())
    body = b'{"event": "deployed"}'
    good = signature_headers(secret, "msg_1", now, body)
    assert verify(secret, good, body)
    assert not verify(b"another secret!!", good, body)
    assert not verify(secret, good, body + b" ")
    for name in good:
        assert not verify(
            secret,
            {**good, name: good[name][:-1] + "x"} if name != "webhook-timestamp" else {**good, name: str(now + 1)},
            body,
        )
    for moment in (now - 301, now + 301):
        assert not verify(secret, signature_headers(secret, "msg_1", moment, body), body)
