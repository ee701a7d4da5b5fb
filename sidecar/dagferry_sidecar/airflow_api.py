"""The hook of ``--airflow-url``: makes Airflow 3 list the dags folder again, so that new and removed DAGs show up.

Airflow lists a folder every 5 minutes by default; a request to parse any one file in it makes it list the folder at
once (docs/how-to/tune-airflow.md). So this requests the file of one DAG that still exists, for each of Airflow's DAG
bundles that has one. If Airflow does not know any DAG of this folder yet, there is nothing to request, and its interval
applies.

Airflow's dags folder may be a subfolder of ours, as with ``?root=.``: its paths are then suffixes of ours.
"""

import http.client
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import HookFailed, ServerUnreachable, SyncError
from dagferry_follow.log import Log
from dagferry_follow.remote.connection import ConnectionOptions
from dagferry_follow.remote.transport import Request, Transport, reason

SILENCE_SECONDS = 20.0
"""How long Airflow may send nothing."""
MAX_REQUEST_SECONDS = 60.0
"""How long one request may take, with its answer."""
MAX_ANSWER_BYTES = 16 << 20
MAX_CREDENTIALS_BYTES = 64 * 1024
PAGE_DAGS = 100
MAX_PAGES = 20
REQUESTED_BEFORE = 409

log = Log(__name__)


class AirflowApi:
    """Airflow's REST API at ``url``, with the credentials in a file: ``user:password``, or a token.

    ``folder`` is the dags folder as the sidecar sees it. The file is read for each swap, so it may change. ``ca_file``
    has the certificate authorities to trust instead of this machine's. The environment's proxies are used here too.
    """

    name = "airflow"

    def __init__(self, url: str, credentials: str, folder: str, ca_file: str | None = None) -> None:
        self._transport = Transport(url, ConnectionOptions(ca_file=ca_file))
        self._credentials = credentials
        self._folder = folder

    def run(self, deploy: DeployRef) -> None:  # noqa: ARG002 - any deploy needs the same listing
        """Make Airflow list the folder; ``HookFailed`` if it cannot be reached or refuses."""
        try:
            token = self._token()
            files = self._one_file_of_each_bundle(token)
            if not files:
                log.info(
                    "Airflow does not know any DAG of this folder yet. It lists the folder after its own interval."
                )
            for file in files.values():
                self._call("PUT", f"/api/v2/parseDagFile/{quote(file, safe='')}", token, allowed=REQUESTED_BEFORE)
        finally:
            self._transport.close()

    def stop(self) -> None:
        """Do nothing: every wait here is short."""

    def _token(self) -> str:
        try:
            with open(self._credentials, encoding="utf-8") as file:
                text = file.read(MAX_CREDENTIALS_BYTES).strip()
        except (OSError, ValueError) as error:
            raise HookFailed(f"{self._credentials} cannot be read.") from error
        user, colon, password = text.partition(":")
        if not colon:
            return text
        answer = self._call("POST", "/auth/token", body={"username": user, "password": password})
        token = answer.get("access_token")
        if not isinstance(token, str):
            raise HookFailed("Airflow's answer to /auth/token has no token.")
        return token

    def _one_file_of_each_bundle(self, token: str) -> dict[str, str]:
        """Return the token of a file for each of Airflow's DAG bundles that has a file of our folder."""
        found: dict[str, str] = {}
        elsewhere: dict[str, list[tuple[str, str, str]]] = defaultdict(list)  # by the name of the file
        for page in range(MAX_PAGES):
            query = f"limit={PAGE_DAGS}&offset={page * PAGE_DAGS}&order_by=dag_id"
            dags = self._call("GET", f"/api/v2/dags?{query}", token).get("dags")
            if not isinstance(dags, list):
                raise HookFailed("Airflow's answer to /api/v2/dags has no DAGs.")
            for dag in dags:
                path, bundle, file = dag.get("relative_fileloc"), dag["bundle_name"], dag["file_token"]
                if path and os.path.exists(os.path.join(self._folder, path)):
                    found.setdefault(bundle, file)
                elif path:
                    elsewhere[os.path.basename(path)].append((f"/{path}", bundle, file))
            if len(dags) < PAGE_DAGS:
                break
        for name in self._files() if elsewhere else ():
            for path, bundle, file in elsewhere.get(os.path.basename(name), ()):
                if name.endswith(path):
                    found.setdefault(bundle, file)
        return found

    def _files(self) -> Iterator[str]:
        for folder, _, names in os.walk(os.path.realpath(self._folder)):
            yield from (f"{folder}/{name}" for name in names)

    def _call(
        self, method: str, path: str, token: str = "", *, body: Mapping[str, str] | None = None, allowed: int = 0
    ) -> dict[str, Any]:
        """Return the answer; its status is 200, 201 or ``allowed``."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        shown = f"{method} {path.partition('?')[0][:60]}"
        asked = Request(method, self._transport.url.path + path, headers, json.dumps(body) if body else None)
        self._transport.limit(MAX_REQUEST_SECONDS)
        try:
            with self._transport.request(asked, SILENCE_SECONDS, SILENCE_SECONDS) as response:
                text = response.read(MAX_ANSWER_BYTES)
            if response.status not in {http.client.OK, http.client.CREATED, allowed}:
                raise HookFailed(f"Airflow answered {response.status} to {shown}.")
            answer: Any = json.loads(text or b"{}")
        except SyncError as error:
            if isinstance(error, HookFailed):
                raise
            hint = error.hint if error.hint != ServerUnreachable.default_hint else None
            raise HookFailed(f"Airflow does not answer {shown}: {error.message}", hint) from error
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            raise HookFailed(f"Airflow does not answer {shown}: {reason(error)}.") from error
        return answer if isinstance(answer, dict) else {}
