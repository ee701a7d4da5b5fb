"""What is wrong with values for Airflow's official chart, although Helm installs them without a word.

Each check looks at one thing and depends on no other, so all faults are found at once. What Helm, the cluster or the
sidecar refuse themselves is not checked here.
"""

from collections.abc import Iterator
from typing import Any

from dagferry_client.airflow_chart import COMPONENTS, OWN_INIT_CONTAINERS, Ours, Pod, Setup
from dagferry_client.doctor import Check

NAMES = ("chart", "folder", *COMPONENTS)
"""Every check, in its order."""
_CURRENT = "current"
_SAME = ("--server", "--deployment", "--root", "--when-empty", "--seed")
"""The settings that the init container and the sidecar of a pod must share."""
_ONCE_SECONDS, _QUEUED_SECONDS = 300, 600
"""How long --once tries and a task may be queued, where the values do not say: ``--once-timeout`` of the sidecar, and
``scheduler.task_queued_timeout`` of Airflow, which then starts the task's pod anew, twice before the task fails."""
_BESIDE = "Take it from deploy/airflow/sidecar.yaml: give that file first, with -f."


def examine(setup: Setup) -> Iterator[Check]:
    """Yield every check of ``NAMES``."""
    yield _chart(setup)
    yield _bundle(setup) if setup.has_bundle else _folder(setup)
    for component in COMPONENTS:
        yield _component(setup, component)


def _chart(setup: Setup) -> Check:
    said = f"Airflow {setup.airflow} with {setup.executor}."
    if setup.version is None:
        message = f"{said} It is not known which chart this is for; a current one is assumed."
        hint = "Give --chart-version: charts before 1.21 ignore workers.kubernetes.extraInitContainers."
        return Check("chart", "warning", message, hint)
    return Check("chart", "ok", f"Chart {'.'.join(map(str, setup.version))}: {said}", "")


# --- what Airflow reads -----------------------------------------------------------------------------------------------


def _bundle(setup: Setup) -> Check:
    if setup.airflow < 3:  # noqa: PLR2004
        message = "A DAG bundle is configured, but Airflow 2 has none, so nothing is read from it."
        return Check("folder", "failed", message, "Use deploy/airflow/sidecar.yaml, or Airflow 3.")
    return Check("folder", "ok", "The DAG bundle is used, so no folder is read.", "")


def _folder(setup: Setup) -> Check:
    """Check that Airflow reads what the sidecar publishes: the folder, the mount, and the volume behind it."""
    followers = [ours for name in COMPONENTS for pod in setup.pods(name) for ours in (*pod.init, *pod.beside)]
    if not followers:
        message = "These values have neither a sidecar nor the DAG bundle."
        return Check("folder", "failed", message, "Give deploy/airflow/sidecar.yaml or bundle.yaml first, with -f.")
    root = _root(followers[0])
    folder = str(setup.get("config.core.dags_folder") or "").rstrip("/")
    published = f"{root}/{_CURRENT}"
    if not f"{folder}/".startswith(f"{published}/"):
        reads = folder or "the chart's default folder"
        message = f"Airflow reads {reads}, but the sidecar publishes to {published}."
        return Check("folder", "failed", message, f"Set config.core.dags_folder to {published}.")
    fine = Check("folder", "ok", f"Airflow reads {folder}, which the sidecar publishes.", "")
    return next(_mounting(setup, followers, root, folder), fine)


def _mounting(setup: Setup, followers: list[Ours], root: str, folder: str) -> Iterator[Check]:
    mount = next((each for each in setup.mounts() if str(each.get("mountPath")).rstrip("/") == root), None)
    if mount is None:
        message = f"Airflow does not mount the volume at {root}, so {folder} does not exist for it."
        yield Check("folder", "failed", message, "Add it to volumeMounts, read-only.")
        return
    if mount.get("subPath") or mount.get("subPathExpr"):
        message = f"Airflow mounts {root} with subPath, so it never sees a deploy after its start."
        yield Check("folder", "failed", message, "Mount the whole volume.")
    for ours in followers:
        if _root(ours) != root or ours.mounts.get(root) != mount.get("name"):
            message = f"{ours.name} of {ours.key} does not write to the volume that Airflow mounts at {root}."
            yield Check("folder", "failed", message, "Give all of them the same --root and the same volume.")
    for source in ("dags.gitSync.enabled", "dags.persistence.enabled"):
        if setup.get(source):
            message = f"Airflow reads {folder}, so nothing reads the DAGs that {source} brings."
            yield Check("folder", "warning", message, "Switch it off.")
    if not mount.get("readOnly"):
        message = f"Airflow may write to {folder}: the sidecar takes that for damage, and undoes it."
        yield Check("folder", "warning", message, "Set readOnly: true in volumeMounts.")


def _root(ours: Ours) -> str:
    return ours.flags["--root"].rstrip("/")


# --- the pods ---------------------------------------------------------------------------------------------------------


def _component(setup: Setup, name: str) -> Check:
    if not setup.reads_dags(name):
        return Check(name, "skipped", "There is none, or it reads no DAGs.", "")
    if setup.has_bundle and name != "triggerer":
        if name == "dag-processor" and any(pod.init or pod.beside for pod in setup.pods(name)):
            message = "It has a sidecar and the DAG bundle: if it reads the folder too, each DAG is there twice."
            return Check(name, "warning", message, "Leave one of them out.")
        return Check(name, "ok", "The DAG bundle serves it.", "")
    if name == "task-pods" and setup.get("podTemplate"):
        return _own_template(str(setup.get("podTemplate")))
    problems = (found for pod in setup.pods(name) for found in _problems(setup, name, pod))
    found = min(problems, key=lambda check: ("failed", "warning").index(check.state), default=None)
    kept = ", and keeps it. Each asks the server at its start." if name == "task-pods" else ", and follows."
    fine = f"It starts with the newest version{kept}"
    return found or Check(name, "ok", fine, "")


def _own_template(template: str) -> Check:
    if "dagferry" in template and "--once" in template:
        return Check("task-pods", "ok", "podTemplate has an init container with --once.", "")
    message = "The chart uses podTemplate as it is, without workers.kubernetes.extraInitContainers: no DAGs are there."
    return Check("task-pods", "failed", message, "Put the init container into podTemplate, or leave podTemplate out.")


def _problems(setup: Setup, name: str, pod: Pod) -> Iterator[Check]:
    once = [ours for ours in pod.init if ours.once]
    followers = [ours for ours in (*pod.init, *pod.beside) if not ours.once]
    blocking = [ours for ours in pod.init if not ours.once and not ours.native]
    if pod.ignored:
        since = ".".join(map(str, OWN_INIT_CONTAINERS[name]))
        message = f"This chart does not use {pod.ignored}: the pods start without DAGs, and Helm says nothing."
        yield Check(name, "failed", message, f"Set workers.extraInitContainers, or upgrade the chart to {since}.")
        return
    if blocking:
        message = f"{blocking[0].name} of {blocking[0].key} never ends, so the pod stays in Init."
        yield Check(name, "failed", message, "Set restartPolicy: Always, which makes it a sidecar.")
    if name == "task-pods":
        yield from _task_pod(name, pod, once, followers)
        yield from _patience(setup, name, once)
        return
    if name == "triggerer":
        yield from _imports(setup, pod, followers)
    if not followers and not (name == "triggerer" and setup.has_bundle):
        what = "It gets the DAGs at its start, and no deploy after that" if once else "It gets no DAGs"
        yield Check(name, "failed", f"{what}: {pod.key} has no sidecar.", _BESIDE)
    if followers and not once and not any(ours.native for ours in followers):
        message = "Airflow starts before its DAGs are there: no init container has --once."
        yield Check(name, "warning", message, _BESIDE)
    yield from _order(name, pod, once, followers)


def _task_pod(name: str, pod: Pod, once: list[Ours], followers: list[Ours]) -> Iterator[Check]:
    if beside := [ours for ours in pod.beside if not ours.once]:
        message = f"{beside[0].name} of {beside[0].key} never ends, so the pod of a finished task stays."
        yield Check(name, "failed", message, "An init container with --once is enough: a task keeps its version.")
    elif not once and not followers:
        yield Check(name, "failed", f"They start without DAGs: {pod.key} has no init container with --once.", _BESIDE)
    elif followers:
        message = f"{followers[0].name} swaps files under a task that runs."
        yield Check(name, "warning", message, "An init container with --once is enough: a task keeps its version.")


def _patience(setup: Setup, name: str, once: list[Ours]) -> Iterator[Check]:
    """Check that Airflow gives up first: the pod of a task is not restarted, so a failed init container fails it."""
    queued = _seconds(setup.get("config.scheduler.task_queued_timeout"), _QUEUED_SECONDS)
    for ours in once:
        if (tries := _seconds(ours.flags.get("--once-timeout"), _ONCE_SECONDS)) <= queued:
            message = f"A task fails while the server is away: {ours.name} gives up after {tries:g} s, before Airflow, "
            message += f"which starts a pod that waits for {queued:g} s anew (task_queued_timeout)."
            yield Check(name, "warning", message, "Give it --once-timeout=3600.")


def _seconds(given: Any, otherwise: float) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):  # not given, or a template
        return otherwise


def _imports(setup: Setup, pod: Pod, followers: list[Ours]) -> Iterator[Check]:
    if setup.has_bundle and not followers:
        message = "It does not use bundles, so triggers of your own modules cannot be imported."
        yield Check("triggerer", "warning", message, "Take its sidecar from deploy/airflow/bundle.yaml.")
    elif setup.airflow >= 3 and followers:  # noqa: PLR2004
        published = f"{_root(followers[0])}/{_CURRENT}"
        paths = pod.env.get("PYTHONPATH", "").split(":")
        if not any(f"{path}/".startswith(f"{published}/") for path in paths):
            message = f"{published} is not on its PYTHONPATH, so triggers of your own modules cannot be imported."
            yield Check("triggerer", "warning", message, "Set it in triggerer.env.")


def _order(name: str, pod: Pod, once: list[Ours], followers: list[Ours]) -> Iterator[Check]:
    native = [ours for ours in pod.init if not ours.once]
    if once and native and pod.init.index(native[0]) < pod.init.index(once[0]):
        message = f"{native[0].name} is started before {once[0].name}, which then cannot have the volume."
        yield Check(name, "failed", message, "Put the init container with --once first.")
    for first, second in zip(once[:1], followers[:1], strict=False):
        if differing := [flag for flag in _SAME if first.flags.get(flag) != second.flags.get(flag)]:
            message = f"{first.name} and {second.name} differ in {', '.join(differing)}."
            yield Check(name, "failed", message, "Give both the same.")
