"""Files that look like secrets are found by their names."""

import pytest

from dagferry_core.archive.secret_files import MAX_SHOWN_PATHS, secret_warnings


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".env",
            "a/.env",
            ".env.prod",
            ".env.example.local",
            "conf/.ENV",
            "prod.env",
            "tls/server.pem",
            "k.PEM",
            "x.key",
            "a.p12",
            "A.Pfx",
        ),
        *(
            "keys/id_rsa",
            "id_ed25519",
            "id_ed25519_sk",
            "id_deploy",
            "ID_RSA",
            "id_rsa.bak",
            "id_rsa.txt",
            "id_rsa.pem",
            ".netrc",
        ),
    ],
)
def test_what_looks_like_a_secret_is_named(path) -> None:
    [warning] = secret_warnings(["dag.py", path])
    assert path in warning


@pytest.mark.parametrize(
    "path",
    [
        *("dag.py", "id_mapping.py", "env.py", "environment/.envrc.py", "keys.py", "pem.sql", "id_rsa.py"),
        *(
            "id_map.CSV",
            "id_list.txt",
            "id_map.hql",
            "id_lookup.jinja2",
            "id_map.csv.gz",
            "id_types.pyi",
            "id_rsa.pub",
            "sql/id_lookup.sql",
            "grid_key",
            "keyenv",
            ".env.example",
            "conf/.env.sample",
            ".env.template",
            ".ENV.dist",
        ),
    ],
)
def test_and_nothing_else_is(path) -> None:
    assert secret_warnings([path]) == []


def test_the_list_is_short() -> None:
    [warning] = secret_warnings(f"{number}.pem" for number in range(1000))
    assert warning.count(".pem") == MAX_SHOWN_PATHS
    assert "990 more" in warning
