"""The table of the alerts in ``deploy/prometheus/``, each with its page of the runbook."""

from pathlib import Path

import yaml

RULES = Path(__file__).resolve().parent.parent / "deploy" / "prometheus" / "alerts.yaml"


def documented() -> list[tuple[str, str, str]]:
    """Return name, severity and summary of every alert, for a page in docs/how-to/."""
    return [
        (
            f"[`{rule['alert']}`](runbook/{rule['annotations']['runbook_url'].rpartition('/')[2]})",
            rule["labels"]["severity"],
            rule["annotations"]["summary"].replace("{{ ", "`").replace(" }}", "`").replace("$labels.", ""),
        )
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
    ]
