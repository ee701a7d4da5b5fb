"""Webhooks are delivered to real receivers: signed, again after failures, within limits, and never in anybody's way."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from dagferry_core.limits import UploadLimit
from dagferry_server.errors import DeploymentFrozen
from dagferry_server.metrics import Metrics
from dagferry_server.webhooks import delivery
from dagferry_server.webhooks.delivery import Webhooks
from dagferry_server.webhooks.messages import Message, degraded, refused
from dagferry_server.webhooks.settings import EVENTS, Webhook
from harness import free_port
from issuer import make_certificate
from running import eventually
from webhook_receiver import SECRET, Receiver


@pytest.fixture(autouse=True)
def _tries_often(monkeypatch) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(delivery, "RETRY_MAX_SECONDS", 0.02)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().served() as receiver:
        yield receiver


class Sender:
    """The webhooks of a server, and the outcomes that its metrics count."""

    def __init__(self, folder: Path) -> None:
        self.metrics = Metrics(UploadLimit(0, "", ""))
        self.webhooks = Webhooks(self.metrics)
        self.secret = folder / "secret"
        self.secret.write_bytes(SECRET + b"\n")

    def hook(self, url: str, form: str = "json", events=EVENTS) -> Webhook:
        secret = {"secret-file": str(self.secret)} if form == "json" else {}
        return Webhook.model_validate({"url": url, "events": events, "format": form, **secret})

    def count(self, outcome: str) -> float:
        return self.metrics.webhooks.labels("prod", outcome)._value.get()

    def send(self, *hooks: Webhook, reason: str = "late") -> Message:
        message = degraded("prod", "v1", reason, 100)
        self.webhooks.send(hooks, message)
        return message


@pytest.fixture
async def sender(tmp_path: Path) -> AsyncIterator[Sender]:
    sender = Sender(tmp_path)
    yield sender
    await sender.webhooks.close()


def messages(caplog, text: str) -> list[dict[str, object]]:
    return [record.fields for record in caplog.records if record.message == text]


async def test_a_message_arrives_signed(sender, receiver, caplog) -> None:
    caplog.set_level(logging.INFO)
    sent = sender.send(sender.hook(receiver.url))
    await eventually("the message", lambda: sender.count("delivered") == 1)
    (request,) = receiver.received
    assert (request.wrong, request.body) == ("", sent.body("json"))
    assert request.headers["user-agent"].startswith("dagferry/")
    (line,) = messages(caplog, "Webhook delivered")
    assert (line["id"], line["event"], line["attempts"]) == (sent.id, "degraded", 1)


async def test_slack_gets_a_text_without_a_signature(sender) -> None:
    async with Receiver(secret=None).served() as receiver:
        sender.send(sender.hook(receiver.url, "slack"))
        await eventually("the message", lambda: receiver.received)
    (request,) = receiver.received
    assert (request.wrong, request.json) == ("", {"text": "prod: DEGRADED: late"})


async def test_a_webhook_gets_the_events_that_it_asked_for(sender, receiver) -> None:
    hook = sender.hook(receiver.url, events=["refused"])
    sender.send(hook)
    sender.webhooks.send([hook], refused("prod", "ci", DeploymentFrozen("no"), 1))
    await eventually("the message", lambda: sender.count("delivered") == 1)
    assert [request.json["event"] for request in receiver.received] == ["refused"]


@pytest.mark.parametrize("status", [500, 503, 404, 400, 429, 302, 304, 300])
async def test_every_answer_but_a_2xx_is_tried_again_with_the_same_message(sender, receiver, status, caplog) -> None:
    receiver.answer = lambda _: web.Response(status=status if len(receiver.received) < 3 else 202)
    sent = sender.send(sender.hook(receiver.url))
    await eventually("the message", lambda: sender.count("delivered") == 1)
    assert sender.count("failed") == 2
    assert {(request.body, request.headers["webhook-id"]) for request in receiver.accepted} == {
        (sent.body("json"), sent.id)
    }
    (line,) = messages(caplog, "Webhook failed; it is tried again")
    assert line["error"] == f"the receiver answered with status {status}"


async def test_a_redirect_is_not_followed(sender, receiver, monkeypatch) -> None:
    monkeypatch.setattr(delivery, "GIVE_UP_SECONDS", 0)
    async with Receiver().served() as other:
        for number, status in enumerate((301, 302, 303, 307, 308), 1):
            receiver.answer = lambda _, status=status: web.Response(status=status, headers={"Location": other.url})
            sender.send(sender.hook(receiver.url))
            await eventually("the end", lambda number=number: sender.count("dropped") == number)
        assert len(receiver.received) == 5
        assert other.received == []


async def test_a_receiver_that_is_dead_for_a_while_gets_its_messages_in_order(sender, caplog) -> None:
    port = free_port()
    hook = sender.hook(f"http://127.0.0.1:{port}/hooks/canarypath")
    sent = [sender.send(hook, reason=str(number)) for number in range(3)]
    await eventually("a few attempts", lambda: sender.count("failed") > 3)
    receiver = Receiver()
    receiver_app = web.Application()
    receiver_app.router.add_route("*", "/{path:.*}", receiver._receive)
    runner = web.AppRunner(receiver_app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await eventually("all", lambda: sender.count("delivered") == 3)
    await runner.cleanup()
    assert [request.headers["webhook-id"] for request in receiver.accepted] == [message.id for message in sent]
    assert "no connection" in str(messages(caplog, "Webhook failed; it is tried again")[0]["error"])


async def test_a_receiver_that_hangs_is_given_up_and_holds_up_no_other(sender, receiver, monkeypatch, caplog) -> None:
    monkeypatch.setattr(delivery, "ATTEMPT_SECONDS", 2)
    monkeypatch.setattr(delivery, "GIVE_UP_SECONDS", 0)
    async with Receiver().served() as hanging:
        hanging.hangs = True
        sender.send(sender.hook(hanging.url), sender.hook(receiver.url))
        await eventually("the other", lambda: receiver.received)
        await eventually("the end", lambda: sender.count("dropped") == 1)
    (line,) = messages(caplog, "Webhook dropped")
    assert line["error"] == "no answer within 2 s"


async def test_an_endless_answer_is_not_read(sender, receiver) -> None:
    async def endless(_: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(_)
        while True:
            await response.write(bytes(1 << 16))

    app = web.Application()
    app.router.add_post("/", endless)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sender.send(sender.hook(f"http://127.0.0.1:{runner.addresses[0][1]}/"))
    await eventually("the message", lambda: sender.count("delivered") == 1)
    await runner.cleanup()


async def test_what_is_too_old_is_dropped_counted_and_logged(sender, receiver, monkeypatch, caplog) -> None:
    monkeypatch.setattr(delivery, "GIVE_UP_SECONDS", 0.1)
    receiver.answer = lambda _: web.Response(status=500)
    sent = sender.send(sender.hook(receiver.url))
    await eventually("the end", lambda: sender.count("dropped") == 1)
    (line,) = messages(caplog, "Webhook dropped")
    assert (line["id"], line["attempts"]) == (sent.id, sender.count("failed"))
    # The next message is as any other.
    receiver.answer = lambda _: web.Response(status=204)
    sender.send(sender.hook(receiver.url))
    await eventually("the message", lambda: sender.count("delivered") == 1)


@pytest.mark.parametrize("limit", ["MAX_QUEUED", "MAX_QUEUED_IN_TOTAL"])
async def test_no_more_wait_than_allowed(sender, receiver, monkeypatch, limit, caplog) -> None:
    monkeypatch.setattr(delivery, limit, 3)
    receiver.hangs = True
    hooks = [sender.hook(receiver.url)]
    for _ in range(5):
        sender.send(*hooks)
    assert sender.count("dropped") == 2
    assert len(messages(caplog, "Webhook dropped")) == 2
    other = Receiver()
    async with other.served():
        sender.send(sender.hook(other.url))
        if limit == "MAX_QUEUED":
            await eventually("another webhook's message", lambda: other.received)
        else:
            assert sender.count("dropped") == 3
    monkeypatch.setattr(delivery, "CLOSE_SECONDS", 0.01)


async def test_no_more_requests_are_sent_at_once_than_allowed(sender, monkeypatch) -> None:
    receivers = [Receiver() for _ in range(4)]
    sender.webhooks._sending = asyncio.Semaphore(2)
    monkeypatch.setattr(delivery, "ATTEMPT_SECONDS", 0.5)
    monkeypatch.setattr(delivery, "CLOSE_SECONDS", 0.01)
    async with receivers[0].served(), receivers[1].served(), receivers[2].served(), receivers[3].served():
        for receiver in receivers:
            receiver.hangs = True
            sender.send(sender.hook(receiver.url))
        await eventually("two", lambda: sum(len(receiver.received) for receiver in receivers) == 2)
        assert sender.count("failed") == 0
        await eventually("the others", lambda: all(receiver.received for receiver in receivers))


async def test_a_certificate_is_checked(sender, tmp_path, monkeypatch, caplog) -> None:
    certificate, key = make_certificate(tmp_path)
    context = delivery.ssl.SSLContext(delivery.ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with Receiver().served(context) as receiver:
        sender.send(sender.hook(receiver.url))
        await eventually("an attempt", lambda: sender.count("failed") == 1)
        (line,) = messages(caplog, "Webhook failed; it is tried again")
        assert str(line["error"]).startswith("its certificate is not trusted: ")
        assert receiver.received == []
        # A new authority is trusted without a restart.
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        await eventually("the message", lambda: sender.count("delivered") == 1)
    assert receiver.accepted


async def test_a_new_secret_counts_from_the_next_attempt(sender, receiver) -> None:
    receiver.secret = b"another secret of many letters"
    sender.send(sender.hook(receiver.url))
    await eventually("an attempt", lambda: sender.count("failed") == 1)
    await asyncio.to_thread(sender.secret.write_bytes, receiver.secret)
    await eventually("the message", lambda: sender.count("delivered") == 1)


@pytest.mark.parametrize("content", [None, b"", b"short"])
async def test_without_a_secret_nothing_is_sent(sender, receiver, content, caplog) -> None:
    if content is None:
        sender.secret.unlink()
    else:
        sender.secret.write_bytes(content)
    sender.send(sender.hook(receiver.url))
    await eventually("an attempt", lambda: sender.count("failed") == 1)
    assert receiver.received == []
    (line,) = messages(caplog, "Webhook failed; it is tried again")
    assert str(sender.secret) in str(line["error"])


async def test_a_name_server_that_hangs_takes_no_thread_of_the_deploys(sender, receiver, monkeypatch, caplog) -> None:
    stuck = asyncio.Event()
    loop = asyncio.get_running_loop()

    def resolve(*_: object) -> list[object]:
        asyncio.run_coroutine_threadsafe(stuck.wait(), loop).result(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(delivery, "RESOLVE_SECONDS", 0.1)
    monkeypatch.setattr(delivery, "CLOSE_SECONDS", 0.5)
    for number in range(10):  # more than there are shared threads
        sender.send(sender.hook(f"https://host-{number}.example/x"))
    await eventually("attempts", lambda: sender.count("failed") >= 10)
    assert await asyncio.wait_for(asyncio.to_thread(int), 10) == 0
    monkeypatch.undo()
    sender.send(sender.hook(receiver.url))
    await eventually("the message", lambda: sender.count("delivered") == 1)
    stuck.set()


async def test_neither_the_url_nor_the_secret_is_logged(sender, monkeypatch, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(delivery, "GIVE_UP_SECONDS", 0)
    for url in (
        f"http://canaryuser:canarypass@127.0.0.1:{free_port()}/canarypath?canaryquery",
        "https://no-such-host.invalid/canarypath?canaryquery",
        "http://127.0.0.1:99999/canarypath",
    ):
        sender.send(sender.hook(url))
    await eventually("the end", lambda: sender.count("dropped") == 3)
    said = str([(record.message, getattr(record, "fields", None), record.exc_info) for record in caplog.records])
    assert "canary" not in said
    assert SECRET.decode() not in said
    assert "https://no-such-host.invalid/…" in said


async def test_at_its_end_the_server_tries_what_is_left_once_more(sender, receiver, monkeypatch) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST_SECONDS", 600)
    receiver.answer = lambda _: web.Response(status=500)
    sender.send(sender.hook(receiver.url), reason="first")
    sender.send(sender.hook(receiver.url), reason="second")
    await eventually("an attempt", lambda: sender.count("failed") == 1)
    receiver.answer = lambda _: web.Response(status=204)
    await sender.webhooks.close()
    assert (sender.count("delivered"), sender.count("dropped")) == (2, 0)
    assert [request.json["reason"] for request in receiver.received] == ["first", "first", "second"]
    sender.send(sender.hook(receiver.url))
    assert sender.count("dropped") == 1


async def test_the_end_of_the_server_does_not_wait_for_a_receiver_that_hangs(sender, receiver, monkeypatch) -> None:
    monkeypatch.setattr(delivery, "CLOSE_SECONDS", 0.05)
    receiver.hangs = True
    for _ in range(3):
        sender.send(sender.hook(receiver.url))
    await eventually("the request", lambda: receiver.received)
    await sender.webhooks.close()
    assert sender.count("dropped") == 3


async def test_nothing_is_left_of_a_webhook_that_has_no_messages(sender, receiver) -> None:
    for _ in range(3):
        sender.send(sender.hook(receiver.url))
    await eventually("the messages", lambda: sender.count("delivered") == 3)
    await eventually("the end", lambda: not sender.webhooks._tasks)
    assert sender.webhooks._queues == {}
