"""An administrator freezes a deployment from its page, and lifts the freeze."""

import re

import pytest

PAGE = "/-/ui/deployments/default"
OWN = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}


async def send(server, **fields: str):
    word = re.search(r'name="word" value="([0-9a-f]+)"', (await server.get(PAGE)).body.decode())[1]
    return await server.call(
        "POST", f"{PAGE}/freeze", data={"word": word, **fields}, headers=OWN, allow_redirects=False
    )


async def frozen(server):
    return (await server.get("/default/dags/status")).json["frozen"]


async def test_a_freeze_has_a_reason_and_is_lifted_again(start) -> None:
    server = await start(web=True)
    assert (await send(server, reason=" Quarter end ")).status == 303
    assert await frozen(server) == {"reason": "Quarter end", "until": None, "actor": "anonymous"}
    assert "Quarter end" in (await server.get(PAGE)).body.decode()
    assert (await send(server, lift="1")).status == 303
    assert await frozen(server) is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"reason": ""},
        {"reason": "  "},
        {"reason": "x" * 301},
        {"reason": "a\nb"},
        {"reason": "a", "lift": "1"},
        {"lift": "1", "until": "5"},
    ],
)
async def test_a_form_that_says_neither_or_both_is_refused(start, fields) -> None:
    server = await start(web=True)
    assert (await send(server, **fields)).status == 400
    assert await frozen(server) is None
