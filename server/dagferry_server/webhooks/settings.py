"""A webhook in the deployments file: where messages go, about what, and in which form.

The URL may be a secret, as Slack's are, so logs show its host only. Only the operator of the server can set it: no
request makes the server send anything to another address.
"""

from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer, StringConstraints, model_validator

from dagferry_server.auth.issuers import is_safe_url
from dagferry_server.config.toml_file import Entry

Event = Literal["deployed", "refused", "degraded", "recovered"]
EVENTS: tuple[Event, ...] = get_args(Event)
Format = Literal["json", "slack"]

MAX_WEBHOOKS = 10
"""For one deployment."""
MAX_URL_CHARACTERS = 2000


def shown_url(url: str) -> str:
    """Return what of a webhook's URL may be shown: scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"


def _checked_url(url: str) -> str:
    if not is_safe_url(url):
        raise ValueError("an https URL is expected, or an http URL of this machine")
    return url


class Webhook(Entry):
    """One webhook of a deployment."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))

    url: Annotated[
        str,
        StringConstraints(pattern=r"^[\x21-\x7e]+$", max_length=MAX_URL_CHARACTERS),
        AfterValidator(_checked_url),
        PlainSerializer(shown_url, when_used="json"),
    ]
    secret_file: Annotated[str, StringConstraints(min_length=1)] | None = None
    events: Annotated[tuple[Event, ...], Field(min_length=1)]
    format: Format = "json"

    @model_validator(mode="after")
    def _is_signed(self) -> "Webhook":
        if self.format == "json" and self.secret_file is None:
            raise ValueError("secret-file is required: without it, nobody can tell who sent a message")
        return self
