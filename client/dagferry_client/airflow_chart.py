"""Values for Airflow's official chart, and what the chart makes of them: which of our containers each pod gets.

Only what concerns Dagferry. Helm is not needed, and nothing is rendered: templates in the values stay as they are.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_core.errors import SetupError

MAX_VALUES_BYTES = 2_000_000
"""The size of a values file; the chart's own has 150 KB."""
MAX_NODES = 200_000
"""How many mappings, lists and scalars values may have with every alias written out; the chart's own have 1,300."""
OWN_INIT_CONTAINERS = {"workers": (1, 19), "task-pods": (1, 21)}
"""The first chart in which these have init containers of their own, in ``workers.celery`` and ``workers.kubernetes``.
1.19 and 1.20 take both keys without a word, and use the first only."""
FIRST_WITH_AIRFLOW_3 = (1, 17)
"""The first chart whose default is Airflow 3."""
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.\d{1,4})?(?:[-+].{0,100})?")
_BUNDLE = "DagferryBundle"
_KEYS = {"dag-processor": "dagProcessor", "scheduler": "scheduler", "triggerer": "triggerer"}
_PARTS = {"workers": "celery", "task-pods": "kubernetes"}
COMPONENTS = (*_KEYS, *_PARTS)


class Ours(NamedTuple):
    """A container that runs our sidecar. ``key`` is where in the values it is."""

    key: str
    name: str
    once: bool
    native: bool
    flags: Mapping[str, str]
    mounts: Mapping[str, str]
    """The names of volumes by where they are mounted."""


class Pod(NamedTuple):
    """What the values add to the pods of one component. ``ignored`` is a key that this chart does not look at."""

    key: str
    init: Sequence[Ours]
    beside: Sequence[Ours]
    env: Mapping[str, str]
    ignored: str = ""


def read_values(paths: Sequence[str]) -> dict[str, Any]:
    """Return what Helm would make of ``-f`` with each path, in this order; ``-`` is stdin. Raises ``SetupError``."""
    values: dict[str, Any] = {}
    for path in paths:
        values = _merge(values, _read(path))
    return values


def _read(path: str) -> dict[str, Any]:
    try:
        import yaml  # noqa: PLC0415 - hardly any run needs it
    except ModuleNotFoundError as error:
        raise SetupError("A values file needs PyYAML, which is not installed.", "pip install pyyaml") from error
    try:
        if path == "-":
            text = sys.stdin.read(MAX_VALUES_BYTES + 1)
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read(MAX_VALUES_BYTES + 1)
        if len(text) > MAX_VALUES_BYTES:
            raise SetupError(f"--values={path}: it is larger than {MAX_VALUES_BYTES} bytes.", "Give a values file.")
        found = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: no UTF-8, no date, no number
        reason = " ".join(str(error).split())
        raise SetupError(f"--values={path} cannot be read: {reason}.", "Give a values file, as for helm -f.") from error
    if found is None:
        return {}
    if not isinstance(found, dict) or {"apiVersion", "kind"} <= found.keys():
        raise SetupError(
            f"--values={path} has no values for a chart.", "Give what you give to helm -f, not what Helm renders."
        )
    if not _is_bounded(found):
        message = f"--values={path}: with all aliases written out it has more than {MAX_NODES} parts."
        raise SetupError(message, "Give a values file.")
    return found


def _is_bounded(values: Any) -> bool:
    """Return whether values are small, although an alias may contain itself, or many others."""
    left, nodes = [values], 0
    while left and nodes <= MAX_NODES:
        part = left.pop()
        nodes += 1
        if isinstance(part, dict):
            left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)
    return nodes <= MAX_NODES


def _merge(below: Any, above: Any) -> Any:
    """Merge as Helm does: mappings key by key, everything else is replaced; null removes a key."""
    if not isinstance(above, dict):
        return above
    merged = dict(below) if isinstance(below, dict) else {}
    for key, value in above.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def parse_version(text: str) -> tuple[int, int]:
    """Return major and minor of a chart's version, such as ``1.22.0``; raise ``SetupError``."""
    if found := _VERSION.fullmatch(text):
        return int(found[1]), int(found[2])
    raise SetupError(f"--chart-version={text}: a version such as 1.22.0 is expected.", "helm list shows it.")


class Setup:
    """The Airflow that a chart of ``version`` (``None``: not known, so a current one) installs with ``values``."""

    def __init__(self, values: Mapping[str, Any], version: tuple[int, int] | None) -> None:
        self._values = values
        self.version = version
        self.executor = str(self.get("executor") or "CeleryExecutor")
        airflow = re.match(r"\d{1,2}(?!\d)", str(self.get("airflowVersion") or self.get("defaultAirflowTag") or ""))
        is_3 = int(airflow[0]) >= 3 if airflow else version is None or version >= FIRST_WITH_AIRFLOW_3  # noqa: PLR2004
        self.airflow = 3 if is_3 else 2
        enabled = self.get("dagProcessor.enabled")
        self.has_processor = is_3 if enabled is None else bool(enabled)
        self.has_bundle = _BUNDLE in str(self._bundles())

    def get(self, path: str) -> Any:
        """Return the value at a path such as ``config.core``; ``None`` if there is none."""
        found: Any = self._values
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def variable(self, name: str) -> dict[str, str]:
        """Return the values of one of Airflow's environment variables, which win over ``config``, by where each is.

        The first is that of every component, if there is one.
        """
        parts = (*_KEYS.values(), "workers", *(f"workers.{part}" for part in _PARTS.values()))
        keys = ("env", *(f"{part}.env" for part in parts))
        found = {key: value for key in keys if (value := _env(_listed(self.get(key))).get(name))}
        # A text, and maybe a template.
        extra = re.search(rf"name:\s*[\"']?{name}[\"']?\s+value:\s*[\"']?([^\s\"']+)", str(self.get("extraEnv")))
        return {"extraEnv": extra[1], **found} if extra else found

    def bundles(self) -> list[Mapping[str, Any]]:
        """Return the DAG bundles that Airflow 3 is to use; none if that is not said, or by a template."""
        given = self._bundles()
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except ValueError:
                return []
        return [each for each in _listed(given) if isinstance(each, Mapping)]

    def _bundles(self) -> Any:
        name = "dag_bundle_config_list"
        if found := self.variable(f"AIRFLOW__DAG_PROCESSOR__{name.upper()}"):
            return next(iter(found.values()))
        configured = self.get(f"config.dag_processor.{name}")
        by_chart = not configured or f'"{name}"' in str(configured)  # the chart's own default, a template
        return self.get("dagProcessor.dagBundleConfigList") if by_chart else configured

    def mounts(self) -> list[Mapping[str, Any]]:
        """Return what Airflow's own containers mount, in every component or in one."""
        keys = (
            "",
            *(f"{key}." for key in _KEYS.values()),
            "workers.",
            *(f"workers.{part}." for part in _PARTS.values()),
        )
        found = [self.get(f"{key}extraVolumeMounts" if key else "volumeMounts") for key in keys]
        return [each for mounts in found for each in _listed(mounts) if isinstance(each, Mapping)]

    def reads_dags(self, component: str) -> bool:
        """Return whether the component exists and reads DAG files, or imports modules that are deployed with them."""
        return {
            "dag-processor": self.has_processor,
            "scheduler": "Local" in self.executor or not self.has_processor,
            "triggerer": self.get("triggerer.enabled") is not False,
            "workers": "Celery" in self.executor,
            "task-pods": "Kubernetes" in self.executor,
        }[component]

    def pods(self, component: str) -> list[Pod]:
        """Return the pods of a component: one, and for Celery one more for each set of workers that differs."""
        if component in _KEYS:
            return [self._pod(_KEYS[component])]
        own = f"workers.{_PARTS[component]}"
        splits = self.version is None or self.version >= OWN_INIT_CONTAINERS[component]
        pod = self._pod(own, "workers") if splits else self._pod("workers")
        if not splits and not pod.init and self.get(f"{own}.extraInitContainers"):
            pod = pod._replace(ignored=f"{own}.extraInitContainers")
        sets = self.get("workers.celery.sets") if component == "workers" else None
        return [pod, *(_pod_of_set(each, number) for number, each in enumerate(_listed(sets)) if _differs(each))]

    def _pod(self, key: str, otherwise: str = "") -> Pod:
        lists = []
        for name in ("extraInitContainers", "extraContainers", "env"):
            found = _listed(self.get(f"{key}.{name}"))
            used = key if found or not otherwise else otherwise
            lists.append((f"{used}.{name}", found or _listed(self.get(f"{used}.{name}"))))
        (init_key, init), (beside_key, beside), (_, env) = lists
        everywhere = _listed(self.get("env"))
        return Pod(init_key, _ours(init_key, init), _ours(beside_key, beside), _env([*everywhere, *env]))


def _differs(each: Any) -> bool:
    return isinstance(each, Mapping) and bool(_listed(each.get("extraInitContainers")))


def _pod_of_set(each: Mapping[str, Any], number: int) -> Pod:
    key = f"workers.celery.sets[{number}].extraInitContainers"
    return Pod(key, _ours(key, _listed(each["extraInitContainers"])), (), {})


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _ours(key: str, found: Sequence[Any]) -> list[Ours]:
    return [ours for each in found if isinstance(each, Mapping) for ours in _as_ours(key, each)]


def _as_ours(key: str, container: Mapping[str, Any]) -> Iterator[Ours]:
    name = str(container.get("name"))
    flags = _flags(container)
    if "dagferry" in f"{name} {container.get('image')}" and "--root" in flags:
        mounts = {str(m.get("mountPath")): str(m.get("name")) for m in _listed(container.get("volumeMounts"))}
        native = container.get("restartPolicy") == "Always"
        yield Ours(key, name, "--once" in flags, native, flags, mounts)


def _flags(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the sidecar's settings: from variables, and from arguments, which win."""
    prefix = "DAGFERRY_"
    given = _env(_listed(container.get("env")))
    flags = {
        f"--{name.removeprefix(prefix).lower().replace('_', '-')}": value
        for name, value in given.items()
        if name.startswith(prefix)
    }
    words = [str(word) for word in (*_listed(container.get("command")), *_listed(container.get("args")))]
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            flags[flag] = value if equals or following.startswith("--") else following
    return flags


def _env(variables: Sequence[Any]) -> dict[str, str]:
    return {str(each.get("name")): str(each.get("value", "")) for each in variables if isinstance(each, Mapping)}
