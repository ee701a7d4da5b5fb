"""Settings that delay what Airflow reads are named, with what to set."""

import pytest

from dagferry_airflow.hindrances import hindrances

GOOD = {
    ("core", "min_serialized_dag_update_interval"): "0",
    ("core", "dag_file_processor_timeout"): "50",
    ("dag_processor", "dag_file_processor_timeout"): "50",
    ("dag_processor", "file_parsing_sort_mode"): "modified_time",
    ("scheduler", "file_parsing_sort_mode"): "modified_time",
    ("dag_processor", "refresh_interval"): "10",
    ("dag_processor", "bundle_refresh_check_interval"): "2",
    ("scheduler", "dag_dir_list_interval"): "10",
}


def found(major: int, refresh: float | None = None, **changed: str) -> list[str]:
    given = {(section, name): changed.get(name, value) for (section, name), value in GOOD.items()}
    given[("core", "mp_start_method")] = changed.get("mp_start_method", "")
    return hindrances(lambda section, name: given.get((section, name)), major, refresh)


@pytest.mark.parametrize("major", [2, 3])
def test_good_settings_hinder_nothing(major: int) -> None:
    assert found(major) == []
    assert hindrances(lambda *_: None, major) == [], "an older Airflow may not have them"


@pytest.mark.parametrize(
    ("major", "name", "value", "said"),
    [
        (3, "min_serialized_dag_update_interval", "30", "[core] min_serialized_dag_update_interval is 30: "),
        (2, "min_serialized_dag_update_interval", "6", "[core] min_serialized_dag_update_interval is 6: "),
        (3, "file_parsing_sort_mode", "alphabetical", "[dag_processor] file_parsing_sort_mode is alphabetical: "),
        (2, "file_parsing_sort_mode", "random_seeded_by_host", "[scheduler] file_parsing_sort_mode is random"),
        (3, "refresh_interval", "300", "[dag_processor] refresh_interval is 300: new and removed DAG files"),
        (2, "dag_dir_list_interval", "300", "[scheduler] dag_dir_list_interval is 300: new and removed"),
        (3, "bundle_refresh_check_interval", "30", "[dag_processor] bundle_refresh_check_interval is 30: "),
        (3, "dag_file_processor_timeout", "120", "dag_file_processor_timeout is 120: "),
        (2, "dag_file_processor_timeout", "61", "dag_file_processor_timeout is 61: "),
        (2, "mp_start_method", "spawn", "[core] mp_start_method is spawn: "),
    ],
)
def test_a_setting_that_hinders_is_named_once(major: int, name: str, value: str, said: str) -> None:
    [text] = found(major, **{name: value})
    assert text.startswith(said)


def test_of_a_bundle_its_own_interval_counts() -> None:
    assert found(3, 10, refresh_interval="300") == []
    [text] = found(3, 300)
    assert text.startswith("refresh_interval of the DAG bundle is 300: deploys are noticed up to 300 s late.")


def test_what_is_no_number_is_no_hindrance() -> None:
    assert found(3, refresh_interval="often") == []
