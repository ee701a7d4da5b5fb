"""How the states of deployments and pods are shown, by every command that shows them."""

from dagferry_client.api import Frozen
from dagferry_client.output import Styled, utc

_STYLES = {
    "HEALTHY": "bold green",
    "DEPLOYING": "bold yellow",
    "DEGRADED": "bold red",
    "UNKNOWN": "bold magenta",
    "EMPTY": "dim",
    "live": "green",
    "behind": "yellow",
    "failing": "red",
    "lost": "red",
    "claims_unknown": "red",
}
"""How the states of a deployment, and of a sidecar, look on a terminal."""


def styled(state: str) -> Styled:
    """Return a state with its color."""
    return Styled(state, _STYLES.get(state, ""))


def notes(disabled: str | None, frozen: Frozen | None) -> list[str]:
    """Return the sentences about a deployment that accepts no deploys; none if it does."""
    found = [] if disabled is None else [f"Disabled: {disabled}"]
    if frozen:
        until = "" if frozen.until is None else f" until {utc(frozen.until)}"
        found.append(f"Frozen by {frozen.actor}{until}: {frozen.reason}")
    return found
