"""The example of a deployments file is one."""

from dagferry_server.deploys.deployments_file import common_settings, parse_deployments
from dagferry_server.settings import read_settings
from deployfiles import HOME


def test_it_can_be_used() -> None:
    common = common_settings(read_settings([], {}, lambda: (None, None)))
    found = parse_deployments((HOME / "deploy" / "deployments.toml").read_bytes(), common).deployments
    assert list(found) == ["prod", "staging", "playground", "legacy"]
    assert (found["prod"].keep_days, found["staging"].keep_days) == (365, 30)
    assert [name for name, settings in found.items() if settings.disabled] == ["legacy"]
    assert [name for name, settings in found.items() if settings.gate_level == "enforce"] == ["staging"]
