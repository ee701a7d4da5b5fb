"""A client of the shop's order service."""

import json
import os
import urllib.request
from collections.abc import Iterator
from typing import Any

PAGE_ROWS = 500
TIMEOUT_SECONDS = 30


def orders(day: str) -> Iterator[dict[str, Any]]:
    """Yield the orders of a day, page by page."""
    service = os.environ.get("SHOP_API", "https://orders.shop.example")
    page = 0
    while True:
        url = f"{service}/v1/orders?day={day}&limit={PAGE_ROWS}&offset={page * PAGE_ROWS}"
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - our own service
            rows = json.load(answer)
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        page += 1
