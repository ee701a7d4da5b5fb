"""The deployments file: the deployments, and the settings of each that differ from the flags.

::

    defaults = { keep-days = 30 }
    deployments = [
        { name = "prod", tiers = 4, max-expanded-bytes = "2GiB", keep-deploys = 50 },
        { name = "staging", disabled = "it moves to another cluster until Monday" },
    ]

A truncated file is never valid, so a part of it is never applied: there are no tables in brackets, and
``deployments`` comes last. A key that is also a flag is parsed like the flag.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints

from dagferry_core.archive.check import ArchiveRules
from dagferry_core.deploylog import Retention
from dagferry_core.errors import SetupError
from dagferry_core.names import is_deployment
from dagferry_gate.airflowignore import Syntax
from dagferry_gate.rules import NEWEST_PYTHON, Airflow, Rules
from dagferry_runtime.settings import Setting, whole
from dagferry_server.auth.access import GateLevel
from dagferry_server.config.toml_file import Entry, checked, parse_toml
from dagferry_server.config.watched import WatchedFile
from dagferry_server.deploys.checking import Away, Policy
from dagferry_server.settings import MAX_KEEP_DEPLOYS, MAX_TIERS, SETTINGS, Settings
from dagferry_server.webhooks.settings import MAX_WEBHOOKS, Webhook

MAX_REASON_CHARACTERS = 300
CONVERGE_SECONDS, MAX_CONVERGE_SECONDS = 60, 3600
MAX_COMPONENTS = 100
MAX_EXPECTED_PODS = 10_000
"""Of one component; no more sidecars are remembered."""
WHAT = "The deployments file"
NAME, LIST, DEFAULTS = "name", "deployments", "defaults"

_TABLE_HEADER = re.compile(rb"^[ \t]*\[", re.MULTILINE)
_WANTED = 'Write: deployments = [ { name = "prod", keep-days = 30 }, … ], and before it, if wanted: defaults = { … }.'
_FLAGS: Mapping[str, Setting] = {setting.flag.removeprefix("--"): setting for setting in SETTINGS}


def _like_flag(name: str) -> BeforeValidator:
    """Parse a key like its flag; a number and a list may also be written in TOML's own way."""
    setting = _FLAGS[name]

    def read(value: object) -> object:
        if isinstance(setting.default, tuple) and isinstance(value, list | tuple):
            if any(not isinstance(item, str) or "," in item for item in value):
                raise ValueError("a list of texts without commas is expected")
            value = ",".join(value)
        if isinstance(value, float):
            # Pydantic takes only this type.
            raise ValueError("a number with a point is not exact: write it in quotes")  # noqa: TRY004
        if isinstance(value, bool) or not isinstance(value, int | str) or setting.parse is None:
            raise ValueError("a number or a text is expected, or a list where there may be several")
        return setting.parse(str(value))

    return BeforeValidator(read)


_Component = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,253}$")]
"""As a sidecar's ``--component``."""
_Pods = Annotated[int, Field(strict=True, ge=0, le=MAX_EXPECTED_PODS)]


class DeploymentSettings(Entry):
    """The settings of one deployment. A new key is one new line here."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))

    tiers: Annotated[
        int,
        BeforeValidator(lambda value: whole(1, MAX_TIERS)(str(value))),
        Field(description="How many tiers of 15 MiB of compressed upload, as a number."),
    ]
    max_expanded_bytes: Annotated[int, _like_flag("max-expanded-bytes")]
    max_files: Annotated[int, _like_flag("max-files")]
    exclude: Annotated[tuple[str, ...], _like_flag("exclude")]
    allow_empty: Annotated[bool, Field(strict=True)]
    keep_deploys: Annotated[int, _like_flag("keep-deploys")]
    keep_days: Annotated[int, _like_flag("keep-days")]
    gate: Annotated[GateLevel, _like_flag("gate")] | None
    airflow_python: Annotated[str, _like_flag("airflow-python")] | None
    airflow: Annotated[Airflow, _like_flag("airflow")] | None
    airflowignore: Annotated[Syntax, _like_flag("airflowignore")] | None
    max_removed_percent: Annotated[int, _like_flag("max-removed-percent")]
    import_check: Annotated[Policy, _like_flag("import-check")] | None
    check_seconds: Annotated[int, _like_flag("check-seconds")]
    import_check_away: Annotated[Away, _like_flag("import-check-away")]
    disabled: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=MAX_REASON_CHARACTERS)] | None,
        Field(description="Why nothing can be deployed now: uploads are rejected with 409 and this reason."),
    ] = None

    webhooks: Annotated[
        tuple[Webhook, ...],
        Field(
            max_length=MAX_WEBHOOKS,
            description="Who gets messages about the deployment: "
            '`{ url = "https://…", secret-file = "…", events = ["deployed", "refused", "degraded", "recovered"], '
            'format = "json" }`, or format `slack`.',
        ),
    ] = ()
    expected: Annotated[
        dict[_Component, _Pods],
        Field(
            max_length=MAX_COMPONENTS,
            description="How many pods of each component there should be, such as `{ scheduler = 1, worker = 2 }`: "
            "with fewer, the [status](fleet-status.md) is `DEGRADED`. A pod that is replaced may be missing for "
            "`converge-seconds`.",
        ),
    ] = {}  # noqa: RUF012 - pydantic copies it
    converge_seconds: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=MAX_CONVERGE_SECONDS,
            description="How many seconds a pod may take until it has a deploy live; after that, the "
            "[status](fleet-status.md) is `DEGRADED`. 60 by default.",
        ),
    ] = CONVERGE_SECONDS

    @property
    def archive_rules(self) -> ArchiveRules:
        """The rules for an archive."""
        return ArchiveRules(self.max_expanded_bytes, self.max_files, self.exclude, self.allow_empty)

    @property
    def retention(self) -> Retention:
        """Which bundles are kept: all while the deployment is disabled, so that enabling it loses nothing."""
        return Retention(MAX_KEEP_DEPLOYS if self.disabled else self.keep_deploys, self.keep_days)

    @property
    def gate_level(self) -> GateLevel:
        """What happens to DAG files that do not parse: only a Python that was chosen can refuse a deploy by default."""
        return self.gate or ("enforce" if self.airflow_python else "warn")

    @property
    def gate_rules(self) -> Rules:
        """By what the gate judges."""
        return Rules(self.airflow_python or NEWEST_PYTHON, self.airflow, self.airflowignore)


class Configured(NamedTuple):
    """The configured deployments with their settings, and the settings of those that requests create."""

    deployments: Mapping[str, DeploymentSettings]
    defaults: DeploymentSettings


WatchedDeployments = WatchedFile[Configured]


def common_settings(settings: Settings) -> DeploymentSettings:
    """Return the settings of a deployment that is not in a file."""
    return _checked({_key(name): getattr(settings, name) for name in _names() if hasattr(settings, name)}, "The flags")


def watched_deployments(path: str, common: DeploymentSettings) -> WatchedDeployments:
    """Read the file at ``path`` for the first time. Blocks; raises ``SetupError`` if it cannot be used."""
    return WatchedFile(path, partial(parse_deployments, common=common), guarded=True)


def parse_deployments(data: bytes, common: DeploymentSettings) -> Configured:
    """Parse the file; raise ``SetupError`` if anything in it is unknown, wrong or duplicate.

    What neither an entry nor ``defaults`` sets is as in ``common``.
    """
    tables = parse_toml(data, WHAT)
    if _TABLE_HEADER.search(data):
        raise SetupError(f"{WHAT} has [tables]; half of such a file could pass for a complete one.", _WANTED)
    unknown = sorted(tables.keys() - {DEFAULTS, LIST})
    if unknown:
        raise SetupError(f"{WHAT} has an unknown key {unknown[0]!r}.", _WANTED)
    if not tables or list(tables)[-1] != LIST:
        raise SetupError(f"{WHAT} does not end with the list {LIST}.", _WANTED)
    defaults, entries = tables.get(DEFAULTS, {}), tables[LIST]
    if not isinstance(defaults, dict) or not isinstance(entries, list) or not entries:
        raise SetupError(f"{WHAT} lists no deployments, or {DEFAULTS} is not a table.", _WANTED)
    values = {**common.model_dump(by_alias=True), **defaults}
    shared = _checked(values, f"{WHAT}, {DEFAULTS},")
    found: dict[str, DeploymentSettings] = {}
    for place, entry in enumerate(entries, 1):
        name = entry.pop(NAME, None) if isinstance(entry, dict) else None
        if not isinstance(name, str) or not is_deployment(name):
            raise SetupError(
                f"{WHAT}, entry {place}, needs a name of 1 to 63 characters: a-z, 0-9 and inner hyphens.", _WANTED
            )
        if name in found:
            raise SetupError(f"{WHAT} has {name!r} twice.")
        found[name] = _checked({**values, **entry}, f"{WHAT}, deployment {name!r},")
    return Configured(found, shared)


def _checked(values: dict[str, Any], what: str) -> DeploymentSettings:
    return checked(DeploymentSettings, values, what)


def _names() -> list[str]:
    return list(DeploymentSettings.model_fields)


def _key(name: str) -> str:
    return name.replace("_", "-")


def documented() -> list[tuple[str, str, str]]:
    """Return key, flag and meaning of every key, for the docs."""
    rows = [(f"`{NAME}`", "", "The deployment's name. Required.")]
    for name, field in DeploymentSettings.model_fields.items():
        flag = _FLAGS.get(_key(name))
        shown = f"`{flag.flag}`" if flag else ""
        rows.append((f"`{_key(name)}`", shown, field.description or (flag.help if flag else "")))
    return rows
