"""Which webhooks a deployments file may have, and what logs show of them."""

import pytest
from pydantic import ValidationError

from dagferry_server.deploys.deployments_file import common_settings, parse_deployments
from dagferry_server.settings import read_settings
from dagferry_server.webhooks.settings import EVENTS, MAX_WEBHOOKS, Webhook, shown_url

GOOD = {"url": "https://hooks.example.com/x", "secret-file": "/run/secret", "events": ["deployed"]}


def test_a_webhook_has_a_url_a_secret_and_events() -> None:
    webhook = Webhook.model_validate(GOOD)
    assert (webhook.url, webhook.secret_file, webhook.events, webhook.format) == (
        "https://hooks.example.com/x",
        "/run/secret",
        ("deployed",),
        "json",
    )
    assert Webhook.model_validate({**GOOD, "events": EVENTS}).events == EVENTS


def test_only_slack_needs_no_secret_because_its_url_is_one() -> None:
    without = {"url": GOOD["url"], "events": ["refused"]}
    assert Webhook.model_validate({**without, "format": "slack"}).secret_file is None
    with pytest.raises(ValidationError, match="secret-file is required"):
        Webhook.model_validate(without)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://hooks.example.com/x"},
        {"url": "ftp://hooks.example.com/x"},
        {"url": "hooks.example.com/x"},
        {"url": "https:///x"},
        {"url": "https://[::1/x"},
        {"url": "https://a b/x"},
        {"url": "https://example.com/\n"},
        {"url": "https://example.com/é"},
        {"url": "https://example.com/" + "x" * 2000},
        {"url": ""},
        {"url": None},
        {"secret-file": ""},
        {"events": []},
        {"events": ["deleted"]},
        {"events": "deployed"},
        {"format": "teams"},
        {"secret": "in the file itself"},
    ],
    ids=str,
)
def test_anything_else_is_refused(change) -> None:
    with pytest.raises(ValidationError):
        Webhook.model_validate({**GOOD, **change})


def test_plain_http_is_for_this_machine_only() -> None:
    assert Webhook.model_validate({**GOOD, "url": "http://127.0.0.1:9000/x"})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.slack.com/services/T0/B0/secret", "https://hooks.slack.com/…"),
        ("https://ann:secret@example.com:8443/x?key=secret", "https://example.com:8443/…"),
        ("https://a:b@c@example.com/x", "https://example.com/…"),
        ("http://[::1]:9000/secret", "http://[::1]:9000/…"),
    ],
)
def test_logs_show_the_host_alone(url, shown) -> None:
    assert shown_url(url) == shown
    webhook = Webhook.model_validate({**GOOD, "url": url})
    assert webhook.model_dump(mode="json")["url"] == shown
    assert webhook.model_dump()["url"] == url


def parsed(webhooks: str, defaults: str = ""):
    common = common_settings(read_settings([], {}, lambda: (None, None)))
    text = f'defaults = {{ {defaults} }}\ndeployments = [ {{ name = "prod"{webhooks} }}, {{ name = "dev" }} ]'
    return parse_deployments(text.encode(), common).deployments


def test_a_deployment_has_its_own_or_those_of_the_defaults() -> None:
    one = 'webhooks = [ { url = "https://a.example/x", secret-file = "/s", events = ["deployed", "refused"] } ]'
    other = 'webhooks = [ { url = "https://b.example/y", format = "slack", events = ["degraded"] } ]'
    found = parsed(f", {one}", other)
    assert [[webhook.url for webhook in settings.webhooks] for settings in found.values()] == [
        ["https://a.example/x"],
        ["https://b.example/y"],
    ]
    assert parsed("")["prod"].webhooks == ()


def test_a_deployment_has_no_more_than_a_few() -> None:
    one = '{ url = "https://a.example/x", format = "slack", events = ["deployed"] }'
    assert len(parsed(f", webhooks = [ {', '.join([one] * MAX_WEBHOOKS)} ]")["prod"].webhooks) == MAX_WEBHOOKS
    with pytest.raises(Exception, match="webhooks"):
        parsed(f", webhooks = [ {', '.join([one] * (MAX_WEBHOOKS + 1))} ]")


def test_an_error_shows_no_url() -> None:
    with pytest.raises(Exception, match=r"webhooks\.0") as caught:
        parsed(', webhooks = [ { url = "http://example.com/canary", format = "slack", events = ["deployed"] } ]')
    assert "canary" not in str(caught.value)
