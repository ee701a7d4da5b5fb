import json
import subprocess
import sys

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.store.address import Address, obstore_settings, open_store, parse_store, refuse_unknown_credentials
from dagferry_server.store.local import LocalStore

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://bucket", Address("s3", "bucket", "")),
        ("s3://bucket/", Address("s3", "bucket", "")),
        ("s3://bucket/prefix", Address("s3", "bucket", "prefix")),
        ("gs://my_bucket.example/a/b-c_d.e/", Address("gs", "my_bucket.example", "a/b-c_d.e")),
        ("az://container/prefix", Address("az", "container", "prefix")),
        ("file:///var/lib/dagferry", Address("file", "", "/var/lib/dagferry")),
        ("file:///var/lib/../my%20data/", Address("file", "", "/var/my data")),
    ],
)
def test_a_url_names_a_store(url, address) -> None:
    assert parse_store(url) == address
    assert parse_store(address.url.replace(" ", "%20")) == address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "begins with"),
        ("bucket", "begins with"),
        ("/var/lib/dagferry", "begins with"),
        ("https://bucket.s3.amazonaws.com", "begins with"),
        ("s3:bucket", "name of a bucket"),
        ("s3:///prefix", "name of a bucket"),
        ("s3://b", "name of a bucket"),
        ("s3://bucket:9000/a", "name of a bucket"),
        ("s3://bucket/a/../b", "a prefix has"),
        ("s3://bucket/a//b", "a prefix has"),
        ("s3://bucket/a b", "a prefix has"),
        ("s3://key:password@bucket/a", "credentials"),
        ("s3://bucket/a?region=eu", "credentials and settings"),
        ("az://container/a?sig=password", "credentials and settings"),
        ("file://data", "file:///"),
        ("file:data", "file:///"),
    ],
)
def test_another_url_is_an_error_that_says_what_is_expected(url, why) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_store(url)
    assert "password" not in str(caught.value)


def test_the_data_folder_is_the_default_and_may_be_named(tmp_path) -> None:
    for address in (None, parse_store(f"file://{tmp_path}"), parse_store(f"file://{tmp_path}/../{tmp_path.name}")):
        assert isinstance(open_store(address, str(tmp_path), None, {}), LocalStore)


def test_another_folder_is_an_error_that_says_what_to_do(tmp_path) -> None:
    with pytest.raises(SetupError, match="is not the data folder") as caught:
        open_store(parse_store("file:///elsewhere"), str(tmp_path), None, {})
    assert "set --data-dir to this path" in caught.value.hint


def test_a_bucket_is_not_asked_when_it_is_opened(tmp_path, monkeypatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    store = open_store(parse_store("s3://bucket/a/prefix"), str(tmp_path), None, KEYS)
    assert (store.url, store.shared) == ("s3://bucket/a/prefix", True)


def test_what_obstore_does_not_accept_is_an_error_of_the_settings(tmp_path) -> None:
    with pytest.raises(SetupError, match=r"--store az://container/a cannot be used: .*[Aa]ccount"):
        open_store(parse_store("az://container/a"), str(tmp_path), None, {})


def test_obstore_is_imported_for_a_bucket_alone(tmp_path) -> None:
    code = f"""
import sys
import dagferry_server.serve_command
from dagferry_server.store.address import open_store, parse_store
open_store(None, {str(tmp_path)!r}, None, {{}})
print([name for name in sys.modules if name.startswith("obstore")])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_a_bucket_without_obstore_is_an_error_that_says_what_to_install(tmp_path, monkeypatch) -> None:
    for name in ("objects", "object_store", "probe"):
        monkeypatch.delitem(sys.modules, f"dagferry_server.store.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(SetupError, match="obstore") as caught:
        open_store(parse_store("s3://bucket"), str(tmp_path), None, KEYS)
    assert "pip install" in caught.value.hint
    assert "objectstore" in caught.value.hint


def test_an_endpoint_without_tls_must_be_allowed() -> None:
    endpoint = {"AWS_ENDPOINT_URL": "http://10.0.0.1:7070"}
    with pytest.raises(SetupError, match="in the clear") as caught:
        obstore_settings("s3", endpoint)
    assert "AWS_ALLOW_HTTP=true" in caught.value.hint
    assert obstore_settings("s3", {**endpoint, "AWS_ALLOW_HTTP": "true"})[1] == {"allow_http": True}
    assert obstore_settings("s3", {"AWS_ENDPOINT_URL": "https://10.0.0.1"})[1] == {"allow_http": False}


def test_an_endpoint_must_be_a_url() -> None:
    with pytest.raises(SetupError, match="AWS_ENDPOINT_URL is not a URL") as caught:
        obstore_settings("s3", {"AWS_ENDPOINT_URL": "store.example.com:9000"})
    assert "https://" in caught.value.hint


def test_the_authorities_of_a_store_of_one_s_own_are_read_from_the_file_that_the_tools_read(tmp_path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(b"a certificate")
    assert obstore_settings("s3", {"AWS_CA_BUNDLE": str(file)})[1]["root_certificate"] == b"a certificate"
    with pytest.raises(SetupError, match=r"AWS_CA_BUNDLE: .*/missing cannot be read: No such file"):
        obstore_settings("s3", {"AWS_CA_BUNDLE": str(tmp_path / "missing")})


def test_a_profile_is_refused_unless_there_are_keys() -> None:
    with pytest.raises(SetupError, match="profiles in ~"):
        refuse_unknown_credentials("s3", {"AWS_PROFILE": "prod"})
    refuse_unknown_credentials("s3", {"AWS_PROFILE": "prod", **KEYS})
    refuse_unknown_credentials("gs", {"AWS_PROFILE": "prod"})


@pytest.mark.parametrize("kind", ["external_account", "impersonated_service_account", None])
def test_credentials_of_google_that_obstore_does_not_know_are_refused(tmp_path, kind) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"type": kind, "private_key": "password"}))
    with pytest.raises(SetupError, match="are not supported") as caught:
        refuse_unknown_credentials("gs", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert "Workload Identity" in caught.value.hint
    assert "password" not in caught.value.message


@pytest.mark.parametrize("content", ["", "[]", "no JSON", "1"])
def test_credentials_of_google_that_do_not_decode_are_refused(tmp_path, content) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(content)
    with pytest.raises(SetupError, match="is not a JSON object"):
        refuse_unknown_credentials("gs", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})


def test_the_key_of_a_service_account_is_not_refused(tmp_path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"type": "service_account"}))
    refuse_unknown_credentials("gs", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
