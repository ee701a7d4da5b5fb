"""Settings of Airflow that let it read a deploy late, or show it late, each in a sentence that says what to set."""

from collections.abc import Callable

from dagferry_follow.defaults import TOUCH_AGAIN_SECONDS

MAX_SERIALIZED_SECONDS = 5
MAX_REFRESH_SECONDS = 60
MAX_CHECK_SECONDS = 10
NEWEST_FIRST = "modified_time"

Option = Callable[[str, str], str | None]
"""Returns the value of an option in a section, ``None`` if this Airflow does not have it."""


def hindrances(option: Option, major: int, refresh_seconds: float | None = None) -> list[str]:
    """Return the sentences; ``refresh_seconds`` is a DAG bundle's own interval."""
    section = "dag_processor" if major >= 3 else "scheduler"  # noqa: PLR2004 - Airflow 3
    found = []

    def number(in_section: str, name: str) -> float | None:
        try:
            return float(option(in_section, name) or "")
        except ValueError:
            return None

    late = number("core", "min_serialized_dag_update_interval")
    if late is not None and late > MAX_SERIALIZED_SECONDS:
        found.append(
            f"[core] min_serialized_dag_update_interval is {late:g}: after two deploys within {late:g} s the scheduler "
            "and the UI keep the first one until its file is parsed again. Set it to 0."
        )
    mode = option(section, "file_parsing_sort_mode")
    if mode and mode != NEWEST_FIRST:
        found.append(
            f"[{section}] file_parsing_sort_mode is {mode}: what changed waits for all others. "
            f"Set it to {NEWEST_FIRST}."
        )
    name = "refresh_interval" if major >= 3 else "dag_dir_list_interval"  # noqa: PLR2004 - Airflow 3
    listing = refresh_seconds if refresh_seconds is not None else number(section, name)
    if listing is not None and listing > MAX_REFRESH_SECONDS:
        what = "deploys are noticed" if refresh_seconds is not None else "new and removed DAG files are noticed"
        where = "refresh_interval of the DAG bundle" if refresh_seconds is not None else f"[{section}] {name}"
        found.append(f"{where} is {listing:g}: {what} up to {listing:g} s late. Set it to 10.")
    check = number(section, "bundle_refresh_check_interval")
    if major >= 3 and check is not None and check > MAX_CHECK_SECONDS:  # noqa: PLR2004 - Airflow 3
        found.append(f"[{section}] bundle_refresh_check_interval is {check:g}: it delays every refresh. Set it to 2.")
    longest = number(section if major >= 3 else "core", "dag_file_processor_timeout")  # noqa: PLR2004 - Airflow 3
    if longest is not None and longest > TOUCH_AGAIN_SECONDS[-1]:
        found.append(
            f"dag_file_processor_timeout is {longest:g}: a parse longer than {TOUCH_AGAIN_SECONDS[-1]:g} s that is in "
            "progress during a deploy hides it until min_file_process_interval has passed."
        )
    start = option("core", "mp_start_method") or "fork"
    if major < 3 and start != "fork":  # noqa: PLR2004 - Airflow 3
        found.append(f"[core] mp_start_method is {start}: it is not known what such parses read. Set it to fork.")
    return found
