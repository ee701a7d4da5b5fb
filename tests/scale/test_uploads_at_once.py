"""Two and three server processes on one bucket, which all get many uploads at the same time."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import Server, eventually
from server_processes import LONG, history, sequence, unique

pytestmark = pytest.mark.slow

UPLOADS = 50
"""How many each server gets at once."""


@pytest.mark.parametrize("number", [2, 3])
def test_all_uploads_at_once_get_a_place_in_one_log_and_each_client_is_told_its_own(several, number) -> None:
    with_peers = number == 3 or LONG
    cluster = several(number, with_peers=with_peers)
    servers = cluster.start_all("--gate", "off", past_proxy=True)
    work = [(server, count * number + which) for count in range(UPLOADS) for which, server in enumerate(servers)]

    def upload(one: tuple[Server, int]) -> dict:
        server, content = one
        return server.deploy(unique(content))

    with ThreadPoolExecutor(len(work)) as pool:
        told = list(pool.map(upload, work))
    assert sorted(each["sequence"] for each in told) == list(range(1, len(work) + 1))
    for server in servers:
        eventually("all deploys to be known", lambda server=server: sequence(server) == len(work))
    logged = {entry["sequence"]: entry for entry in history(servers[0])}
    assert list(logged) == list(range(1, len(work) + 1))
    for answer in told:
        entry = logged[answer["sequence"]]
        assert (entry["version"], entry["digest"]) == (answer["version"], answer["digest"])
    assert len({answer["digest"] for answer in told}) == len(work), "a client was told another one's content"
    cluster.verified(entries=len(work))
