"""A server finds its credentials as the cloud gives them to a pod, and signs its requests with them.

What hands them out is as strict as in the cloud, and so is the store at the end: see ``cloud_credentials``.
"""

import base64
import json
import os
import time
from pathlib import Path

import pytest

import cloud_credentials
import object_stores
from authorities import make_plain_authority
from cloud_credentials import CLIENT, ROLE, TENANT, Credentials
from dagferry_core.errors import SetupError
from dagferry_server.errors import StoreAway
from dagferry_server.store.address import open_store, parse_store
from stores import ObjectStoreUnderTest

DIGEST = "sha256:" + "a" * 64
LARGE = os.urandom(9_000_000)  # more than a part


def encoded(claims: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def access_token() -> str:
    """What Microsoft Entra gives for storage. Azurite checks its claims, and no signature."""
    now = int(time.time())
    claims = {
        "aud": "https://storage.azure.com",
        "iss": f"https://sts.windows.net/{TENANT}/",
        "appid": CLIENT,
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + 3600,
    }
    return ".".join((encoded({"alg": "RS256", "typ": "JWT"}), encoded(claims), encoded("no signature")))


@pytest.fixture
def token_file(tmp_path) -> Path:
    path = tmp_path / "token"
    path.write_text("the.token.of-the-pod")
    return path


@pytest.fixture
def credentials(token_file, cleanup) -> Credentials:
    made = Credentials(token_file, access_token())
    cleanup.append(made.close)
    return made


@pytest.fixture
def secure(token_file, tmp_path, cleanup) -> tuple[Credentials, str]:
    """The same with TLS, and the path of its authority."""
    authority, context = make_plain_authority(tmp_path)
    made = Credentials(token_file, tls=context)
    cleanup.append(made.close)
    return made, authority


@pytest.fixture
def session(s3) -> ObjectStoreUnderTest:
    """A bucket that takes the role's keys, with its session token, and nothing else."""
    for proxy in s3.proxies:
        proxy.guard = cloud_credentials.takes_session
    return s3


def use(under_test: ObjectStoreUnderTest, **variables: str) -> None:
    """Let a server with these variables, and without any key, store and read all there is."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT_KEY")
    port = under_test.proxies[0].port if under_test.proxies else under_test.service.ports[0]
    own = {name: value for name, value in under_test.service.variables(port).items() if name not in keys}
    under_test.variables = lambda _proxy=None: {**own, **variables}

    def write(out: object) -> bytes:
        out.write(LARGE)
        return b"index"

    store = under_test.open()
    assert store.prepare("prod")
    assert store.create_entry("prod", 1, b"one")
    store.put_bundle("prod", DIGEST, write)
    again = under_test.open()
    assert again.deployments() == ["prod"]
    assert again.newer("prod", 0) == [b"one"]
    with again.open_bundle("prod", DIGEST) as source:
        assert source.read(0, source.size) == LARGE
    for allowed in (again.may_delete("prod", {DIGEST}), again.may_delete("prod", {DIGEST})):
        for digest in allowed:
            again.delete_bundle("prod", digest)
    assert not again.has_bundle("prod", DIGEST)


def test_aws_a_service_account_with_a_role_irsa(session, secure, token_file) -> None:
    credentials, authority = secure
    use(
        session,
        AWS_WEB_IDENTITY_TOKEN_FILE=str(token_file),
        AWS_ROLE_ARN=ROLE,
        AWS_ENDPOINT_URL_STS=f"{credentials.url}/sts",
        AWS_CA_BUNDLE=authority,
    )
    assert set(credentials.granted) == {"POST /sts"}
    assert credentials.refused == []


def test_aws_eks_pod_identity(session, credentials, token_file) -> None:
    use(
        session,
        AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{credentials.url}/v1/credentials",
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(token_file),
    )
    assert set(credentials.granted) == {"GET /v1/credentials"}
    assert credentials.refused == []


def test_aws_the_role_of_an_instance_with_imds_version_2(session, credentials) -> None:
    use(session, AWS_METADATA_ENDPOINT=credentials.url)
    assert set(credentials.granted) == {
        "PUT /latest/api/token",
        "GET /latest/meta-data/iam/security-credentials/",
        "GET /latest/meta-data/iam/security-credentials/dagferry",
    }
    assert credentials.refused == []


def test_aws_a_token_of_another_pod_gets_nothing(session, credentials, tmp_path) -> None:
    (tmp_path / "other").write_text("another.token")
    with pytest.raises(StoreAway):
        use(
            session,
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{credentials.url}/v1/credentials",
            AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(tmp_path / "other"),
        )
    assert credentials.granted == []
    assert session.service.client().list_objects_v2(Bucket=object_stores.BUCKET, Prefix=session.prefix)["KeyCount"] == 0


def test_keys_without_the_session_of_the_role_are_refused_by_this_store(session) -> None:
    with pytest.raises(StoreAway, match="403"):
        session.open().prepare("prod")


@pytest.fixture
def azure(credentials, tmp_path, monkeypatch, cleanup) -> ObjectStoreUnderTest:
    """Azurite that takes access tokens; the system trusts its authority."""
    authority, _ = make_plain_authority(tmp_path, "azure")
    monkeypatch.setenv("SSL_CERT_FILE", authority)
    service = object_stores.azurite_with_tokens(tmp_path / "azure.pem", credentials.bearer)
    under_test = ObjectStoreUnderTest(service, tmp_path)
    under_test.close()
    under_test.proxies.clear()  # they have no certificate
    return under_test


def test_azure_workload_identity(azure, credentials, token_file) -> None:
    use(
        azure,
        AZURE_CLIENT_ID=CLIENT,
        AZURE_TENANT_ID=TENANT,
        AZURE_FEDERATED_TOKEN_FILE=str(token_file),
        AZURE_AUTHORITY_HOST=credentials.url,
        AZURE_ALLOW_HTTP="true",
    )
    assert set(credentials.granted) == {f"POST /{TENANT}/oauth2/v2.0/token"}
    assert credentials.refused == []


def test_azure_managed_identity(azure, credentials) -> None:
    endpoint = f"{credentials.url}/metadata/identity/oauth2/token"
    use(azure, AZURE_MSI_ENDPOINT=endpoint, AZURE_ALLOW_HTTP="true")
    assert set(credentials.granted) == {"GET /metadata/identity/oauth2/token"}
    assert credentials.refused == []


def test_google_the_metadata_service_of_gke(credentials, tmp_path, monkeypatch, cleanup) -> None:
    under_test = ObjectStoreUnderTest(object_stores.gcs(), tmp_path)
    cleanup.append(under_test.close)
    [proxy] = under_test.proxies
    proxy.guard = cloud_credentials.takes_bearer(credentials.bearer)
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_ROOT"):
        monkeypatch.setenv(name, f"127.0.0.1:{credentials.port}")
    use(under_test, GOOGLE_BASE_URL=f"http://127.0.0.1:{proxy.port}")
    assert set(credentials.granted) == {"GET /computeMetadata/v1/instance/service-accounts/default/token"}
    assert credentials.refused == []


def test_google_federation_from_outside_is_refused_and_says_what_to_use(tmp_path) -> None:
    file = tmp_path / "federation.json"
    # https://cloud.google.com/iam/docs/workload-identity-federation-with-other-clouds has this file.
    file.write_text(json.dumps({"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations"}))
    with pytest.raises(SetupError, match="external_account") as caught:
        open_store(parse_store("gs://bucket"), str(tmp_path), 1, {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert "Workload Identity" in (caught.value.hint or "")


def test_aws_a_profile_is_refused_and_says_what_to_use(tmp_path) -> None:
    with pytest.raises(SetupError, match="AWS_PROFILE") as caught:
        open_store(parse_store("s3://bucket"), str(tmp_path), 1, {"AWS_PROFILE": "prod"})
    assert "IRSA" in (caught.value.hint or "")
