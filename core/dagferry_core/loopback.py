"""Which addresses only this machine can reach."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to ``host``. A name is trusted only if it is ``localhost``."""
    import ipaddress  # noqa: PLC0415 - hardly any cold start of a sidecar needs it

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
