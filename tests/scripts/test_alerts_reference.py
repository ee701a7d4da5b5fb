"""The table of alerts has all of them, in their order, with the pages that say what to do."""

import re

from alerts_reference import RULES, documented


def test_every_alert_is_in_the_table_with_its_page() -> None:
    rows = documented()
    names = [re.findall(r"\[`(\w+)`\]\(runbook/([\w-]+\.md)\)", name) for name, _, _ in rows]
    assert [found[0][0] for found in names] == re.findall(r"- alert: (\w+)", RULES.read_text())
    assert len({found[0][1] for found in names}) == len(rows)


def test_a_label_is_shown_by_its_name() -> None:
    [summary] = [text for name, _, text in documented() if "DagferryFleetDegraded" in name]
    assert summary == "Not every pod of `deployment` has the newest deploy."
