"""What hands out credentials in the clouds, as strict as it is there: a request that it would refuse is refused.

Each function of the table below answers as documented, with the status, the headers and the fields of the example in
the page that it names. What is asked for, and by whom, is checked; what is handed out is what the store takes.
"""

import http.server
import json
import re
import ssl
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from faulty_store import Message
from object_stores import KEY, SECRET, sign_s3

ROLE = "arn:aws:iam::123456789012:role/dagferry"
ROLE_NAME = "dagferry"
SESSION_TOKEN = "session-token-of-the-role"
TENANT = "5b3fd5b4-3d19-4a7a-8f4e-0d8a3d1e7c11"
CLIENT = "9f1c3d0e-52a9-4f59-9d6c-6c1f2c5c4f7e"
AZURE_RESOURCE = "https://storage.azure.com"
LIFETIME = timedelta(hours=6)
_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w{64})"
)
_FORM = "application/x-www-form-urlencoded"


class Call(NamedTuple):
    """A request: its query or form has each name once."""

    method: str
    path: str
    headers: Any
    query: dict[str, str]
    form: dict[str, str]


class Answer(NamedTuple):
    status: int
    body: str
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Credentials:
    """Listens on ``port`` of loopback. ``token_file`` has the token that the cluster gave the pod.

    ``bearer`` is the token that is handed out where the store takes one. ``granted`` has what was handed out by whom,
    and ``refused`` what was asked in a wrong way.
    """

    def __init__(self, token_file: Path, bearer: str = "an-access-token", tls: ssl.SSLContext | None = None) -> None:
        self.token_file = token_file
        self.bearer = bearer
        self.granted: list[str] = []
        self.refused: list[str] = []
        self._metadata_token = "AQAEAExampleTokenOfTheMetadataService=="
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def _any(self) -> None:
                url = urlsplit(self.path)
                content = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
                form = content if self.headers["Content-Type"] == _FORM else ""
                call = Call(self.command, url.path, self.headers, _once(url.query), _once(form))
                answer = owner._answer(call)
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(answer.body.encode())))
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body.encode())

            do_GET = do_PUT = do_POST = _any  # noqa: N815 - http.server wants these names

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, call: Call) -> Answer:
        for prefix, answer in self._routes():
            if call.path == prefix or (prefix.endswith("/") and call.path.startswith(prefix)):
                given = answer(call)
                name = f"{call.method} {call.path}"
                (self.granted if given.status == http.HTTPStatus.OK else self.refused).append(name)
                return given
        self.refused.append(f"{call.method} {call.path}")
        return Answer(404, "")

    def _routes(self) -> list[tuple[str, Callable[[Call], Answer]]]:
        return [
            ("/sts", self._sts),
            ("/v1/credentials", self._pod_identity),
            ("/latest/api/token", self._metadata_session),
            ("/latest/meta-data/iam/security-credentials/", self._instance_role),
            (f"/{TENANT}/oauth2/v2.0/token", self._workload_identity),
            ("/metadata/identity/oauth2/token", self._managed_identity),
            ("/computeMetadata/v1/instance/service-accounts/default/token", self._gke),
        ]

    def _sts(self, call: Call) -> Answer:
        """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html"""
        asked = {**call.query, **call.form}
        if call.method != "POST" or asked.get("Version") != "2011-06-15":
            return _sts_error("InvalidAction", "Could not find operation for the version")
        if asked.get("Action") != "AssumeRoleWithWebIdentity":
            return _sts_error("InvalidAction", f"Could not find operation {asked.get('Action')}")
        if not 2 <= len(asked.get("RoleSessionName", "")) <= 64:
            return _sts_error("ValidationError", "Value at 'roleSessionName' failed to satisfy constraint")
        if asked.get("WebIdentityToken") != self.token_file.read_text():
            return _sts_error("InvalidIdentityToken", "No OpenIDConnect provider found in your account")
        if asked.get("RoleArn") != ROLE:
            return _sts_error("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)
        return Answer(
            200,
            '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            "<AssumeRoleWithWebIdentityResult>"
            "<SubjectFromWebIdentityToken>system:serviceaccount:airflow:dagferry</SubjectFromWebIdentityToken>"
            "<Audience>sts.amazonaws.com</Audience>"
            "<AssumedRoleUser>"
            f"<Arn>arn:aws:sts::123456789012:assumed-role/{ROLE_NAME}/{escape(asked['RoleSessionName'])}</Arn>"
            f"<AssumedRoleId>AROACLKWSDQRAOEXAMPLE:{escape(asked['RoleSessionName'])}</AssumedRoleId>"
            "</AssumedRoleUser>"
            f"<Credentials><SessionToken>{SESSION_TOKEN}</SessionToken><SecretAccessKey>{SECRET}</SecretAccessKey>"
            f"<Expiration>{_expiry()}</Expiration><AccessKeyId>{KEY}</AccessKeyId></Credentials>"
            "<Provider>arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE</Provider>"
            "</AssumeRoleWithWebIdentityResult>"
            "<ResponseMetadata><RequestId>ad4156e9-bce1-11e2-82e6-6b6efEXAMPLE</RequestId></ResponseMetadata>"
            "</AssumeRoleWithWebIdentityResponse>",
            "text/xml",
        )

    def _pod_identity(self, call: Call) -> Answer:
        """https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html"""
        if call.method != "GET" or call.headers["Authorization"] != self.token_file.read_text():
            return Answer(400, "[1]: (AccessDeniedException): the service account token is not valid", "text/plain")
        handed = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": SESSION_TOKEN, "Expiration": _expiry()}
        return Answer(200, json.dumps({**handed, "AccountId": "123456789012"}))

    def _metadata_session(self, call: Call) -> Answer:
        """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html"""
        seconds = call.headers["X-aws-ec2-metadata-token-ttl-seconds"] or ""
        if call.method != "PUT":
            return Answer(405, "", "text/html")
        if not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
            return Answer(400, "", "text/html")
        if call.headers["X-Forwarded-For"]:
            return Answer(403, "", "text/html")
        return Answer(200, self._metadata_token, "text/plain", (("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", seconds),))

    def _instance_role(self, call: Call) -> Answer:
        """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html"""
        if call.headers["X-aws-ec2-metadata-token"] != self._metadata_token:
            return Answer(401, "", "text/html")
        name = call.path.rpartition("/")[2]
        if not name:
            return Answer(200, ROLE_NAME, "text/plain")
        if name != ROLE_NAME:
            return Answer(404, "", "text/html")
        handed = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": SESSION_TOKEN, "Expiration": _expiry()}
        moment = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Answer(
            200, json.dumps({"Code": "Success", "LastUpdated": moment, "Type": "AWS-HMAC", **handed}), "text/plain"
        )

    def _workload_identity(self, call: Call) -> Answer:
        """https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow (third case)"""
        expected = {
            "grant_type": "client_credentials",
            "client_id": CLIENT,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self.token_file.read_text(),
            "scope": f"{AZURE_RESOURCE}/.default",
        }
        wrong = [name for name, value in expected.items() if call.form.get(name) != value]
        if call.method != "POST" or wrong:
            said = f"AADSTS900144: The request body must contain the following parameter: {wrong}"
            return Answer(400, json.dumps({"error": "invalid_request", "error_description": said}))
        handed = {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": self.bearer}
        return Answer(200, json.dumps(handed))

    def _managed_identity(self, call: Call) -> Answer:
        """https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token"""
        if call.method != "GET" or call.headers["Metadata"] != "true":
            said = {"error": "invalid_request", "error_description": "Required metadata header not specified"}
            return Answer(400, json.dumps(said))
        if not call.query.get("api-version") or call.query.get("resource") != AZURE_RESOURCE:
            said = {"error": "invalid_resource", "error_description": f"AADSTS500011: {call.query}"}
            return Answer(400, json.dumps(said))
        now = int(time.time())
        handed = {
            "access_token": self.bearer,
            "refresh_token": "",
            "expires_in": "3599",
            "expires_on": str(now + 3599),
            "not_before": str(now),
            "resource": AZURE_RESOURCE,
            "token_type": "Bearer",
        }
        return Answer(200, json.dumps(handed))

    def _gke(self, call: Call) -> Answer:
        """https://cloud.google.com/compute/docs/access/authenticate-workloads#applications"""
        flavor = (("Metadata-Flavor", "Google"), ("Server", "GKE Metadata Server"))
        if call.method != "GET" or call.headers["Metadata-Flavor"] != "Google":
            return Answer(403, "Missing Metadata-Flavor:Google header.", "text/plain", flavor)
        handed = {"access_token": self.bearer, "expires_in": 3599, "token_type": "Bearer"}
        return Answer(200, json.dumps(handed), headers=flavor)


def takes_session(message: Message) -> Message | None:
    """Check that a request to S3 is signed with the keys and the session token; return it signed with the keys alone.

    A gateway has keys of its own only, which come without such a token.
    """
    found = _SIGNATURE.fullmatch(message.header("authorization"))
    if not found or found[1] != KEY or message.header("x-amz-security-token") != SESSION_TOKEN:
        return None
    signed = set(found[4].split(";"))
    if not {"host", "x-amz-date", "x-amz-security-token"} <= signed:
        return None
    headers = {name: value for name, value in message.headers if name.lower() in signed}
    request = AWSRequest(message.method, f"http://{message.header('host')}{message.target}", headers, message.body)
    request.context["timestamp"] = message.header("x-amz-date")
    signer = S3SigV4Auth(BotoCredentials(KEY, SECRET), "s3", found[3])
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if expected != found[5]:
        return None
    return sign_s3(message.without("x-amz-security-token"))


def takes_bearer(token: str) -> Callable[[Message], Message | None]:
    """Check that a request has the token; return it without."""

    def check(message: Message) -> Message | None:
        return message.without("authorization") if message.header("authorization") == f"Bearer {token}" else None

    return check


def _once(encoded: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(encoded).items() if len(values) == 1}


def _expiry() -> str:
    return (datetime.now(timezone.utc) + LIFETIME).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sts_error(code: str, message: str, status: int = 400) -> Answer:
    return Answer(
        status,
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        "<RequestId>4b6e3c1a-6f6e-4f0a-b6a1-EXAMPLE</RequestId></ErrorResponse>",
        "text/xml",
    )
