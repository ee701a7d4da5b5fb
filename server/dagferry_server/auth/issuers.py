"""The issuers file: which issuers' JWTs are trusted, where their keys are, and what their subjects may do.

::

    [[issuers]]
    name = "github"
    kind = "github"                       # github, gitlab, kubernetes or generic: what a rule must restrict
    issuer = "https://token.actions.githubusercontent.com"
    audience = "dagferry"

    [[issuers.rules]]
    claims = { repository_id = "123456", environment = "production" }
    scopes = ["deploy"]
    deployments = ["prod"]

A claim's value is a pattern or a list of patterns. ``except_claims`` of a rule, in the same form, are whom it is not
for: tokens of which one of these claims matches. The keys come from the issuer's OIDC discovery, or from ``jwks_url``
or ``jwks_file``. ``ca_file`` is then the only CA that the fetch trusts. ``bearer_token_file`` contains a token that is
sent only to the host named in this file: if a cluster's discovery points elsewhere, set ``jwks_url`` instead. A cluster
whose ``issuer`` is missing has the one in that token, which the kubelet got from it.

The file is separate from the tokens file because it belongs in a ConfigMap, and the tokens file in a Secret. A rule
that does not restrict who may use it ends the command with exit code 2; in a changed file it leaves the previous rules
in effect.
"""

import base64
import json
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from dagferry_core.errors import SetupError
from dagferry_core.loopback import is_loopback
from dagferry_runtime.regular import read_regular
from dagferry_server.auth.grants import GrantEntry
from dagferry_server.auth.rules import Kind, Rule, claim_text, unbound
from dagferry_server.config.toml_file import Entry, checked, parse_toml

DISCOVERY_PATH = "/.well-known/openid-configuration"
MAX_ISSUERS = 100
MAX_RULES_PER_ISSUER = 1000
MAX_OWN_TOKEN_BYTES = 64 * 1024

_TAKEN_NAMES = {"token", "proxy", "anonymous"}
"""Prefixes of other callers' actors."""

_Claim = str | int | bool


class KeySource(NamedTuple):
    """Where an issuer's keys are: exactly one of ``discovery`` (a URL), ``jwks_url`` and ``jwks_file`` is set."""

    discovery: str | None
    jwks_url: str | None
    jwks_file: str | None
    ca_file: str | None
    bearer_token_file: str | None

    @property
    def files(self) -> list[str]:
        """The files that each fetch reads."""
        return [file for file in (self.ca_file, self.bearer_token_file) if file]


class Issuer(NamedTuple):
    """A trusted issuer: ``issuer`` and ``audience`` are what ``iss`` and ``aud`` of its tokens must be."""

    name: str
    kind: Kind
    issuer: str
    audience: str
    source: KeySource
    rules: tuple[Rule, ...]


_Claims = dict[str, _Claim | Annotated[list[_Claim], Field(min_length=1)]]


class _RuleEntry(GrantEntry):
    claims: _Claims
    except_claims: _Claims = Field(default={})

    @property
    def patterns(self) -> dict[str, tuple[str, ...]]:
        return _patterns(self.claims)

    @property
    def rule(self) -> Rule:
        return Rule(self.patterns, self.grant, _patterns(self.except_claims))


def _patterns(claims: _Claims) -> dict[str, tuple[str, ...]]:
    listed = {name: value if isinstance(value, list) else [value] for name, value in claims.items()}
    return {name: tuple(claim_text(one) or "" for one in value) for name, value in listed.items()}


class _IssuerEntry(Entry):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    kind: Kind
    issuer: Annotated[str, StringConstraints(min_length=1)] = ""
    audience: Annotated[str, StringConstraints(min_length=1)]
    jwks_url: str | None = None
    jwks_file: str | None = None
    ca_file: str | None = None
    bearer_token_file: str | None = None
    rules: Annotated[tuple[_RuleEntry, ...], Field(min_length=1, max_length=MAX_RULES_PER_ISSUER)]

    @model_validator(mode="after")
    def _checks(self) -> "_IssuerEntry":
        if self.name in _TAKEN_NAMES:
            raise ValueError(f"the name {self.name!r} is reserved")
        if self.jwks_file and (self.jwks_url or self.ca_file or self.bearer_token_file):
            raise ValueError("with jwks_file nothing is fetched: remove jwks_url, ca_file and bearer_token_file")
        if not self.issuer and not (self.kind == "kubernetes" and self.jwks_url and self.bearer_token_file):
            raise ValueError("issuer is missing; only kind kubernetes, with jwks_url and bearer_token_file, needs none")
        if not self.jwks_file:
            key, url = ("jwks_url", self.jwks_url) if self.jwks_url else ("issuer", self.issuer)
            if not is_safe_url(url):
                raise ValueError(f"{key} must be an https URL, or the keys could be forged")
        for number, rule in enumerate(self.rules, 1):
            if why := unbound(self.kind, rule.patterns):
                raise ValueError(f"rule {number} of {self.name!r}: {why}")
        return self

    def as_issuer(self) -> Issuer:
        """Return the issuer. Reads the cluster's own token if that names the issuer."""
        discovery = None if self.jwks_url or self.jwks_file else self.issuer.rstrip("/") + DISCOVERY_PATH
        return Issuer(
            self.name,
            self.kind,
            self.issuer or _issuer_of(self.bearer_token_file or ""),
            self.audience,
            KeySource(discovery, self.jwks_url, self.jwks_file, self.ca_file, self.bearer_token_file),
            tuple(rule.rule for rule in self.rules),
        )


class _IssuersFile(Entry):
    issuers: Annotated[tuple[_IssuerEntry, ...], Field(min_length=1, max_length=MAX_ISSUERS)]


def parse_issuers(data: bytes) -> tuple[Issuer, ...]:
    """Read the issuers file; raise ``SetupError`` if an entry is unknown or unsafe, or a rule restricts nobody."""
    what = "The issuers file"
    file = checked(_IssuersFile, parse_toml(data, what), what)
    issuers = tuple(entry.as_issuer() for entry in file.issuers)
    for field in ("name", "issuer"):
        values = [getattr(issuer, field) for issuer in issuers]
        if len(set(values)) < len(values):
            raise SetupError(f"{what} has two entries with the same {field}: merge their rules into one entry.")
    return issuers


def _issuer_of(path: str) -> str:
    """Return the issuer of the token in the file at ``path``, which is our own: its signature is not checked."""
    try:
        payload = read_regular(path, MAX_OWN_TOKEN_BYTES).split(b".")[1]
        issuer = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))["iss"]
    except (IndexError, KeyError, TypeError, ValueError):
        issuer = None
    if not issuer or not isinstance(issuer, str):
        raise SetupError(f"{path} is not a token that names its issuer: set issuer in the issuers file.")
    return issuer


def is_safe_url(url: object) -> bool:
    """Return whether ``url`` authenticates its host: https, or http to this machine."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))
