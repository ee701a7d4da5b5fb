"""The names of metrics follow Prometheus' conventions, and labels are few."""

import re

import pytest

from dagferry_server.metrics import PREFIX, documented


@pytest.mark.parametrize(("name", "kind", "labels", "meaning"), documented())
def test_a_name_has_kind_and_unit(name, kind, labels, meaning) -> None:
    assert name.startswith("`" + PREFIX)
    assert (kind == "counter") == name.endswith("_total`")
    assert (kind == "histogram") <= name.endswith("_seconds`")
    assert not re.search(r"_(ms|millis|kb|mb|minutes|count)\b", name)
    assert set(labels.replace("`", "").split(", ")) <= {
        "",
        "deployment",
        "file",
        "kind",
        "outcome",
        "version",
        "route",
        "state",
        "status",
    }
    assert meaning.endswith(".")


def test_names_are_unique() -> None:
    names = [name for name, *_ in documented()]
    assert len(set(names)) == len(names)
