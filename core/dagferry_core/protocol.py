"""What client and server share over HTTP: paths, names of headers and parameters, media types, limits.

The server's routes, the follower's requests and the tables of the page about the protocol all come from here.
"""

UPLOAD_PATH = "/{deployment}/dags/upload"
CURRENT_PATH = "/{deployment}/dags/current"
VERSION_PATH = "/{deployment}/dags/versions/{version}"
FILES_PATH = "/{deployment}/dags/versions/{version}/files"
FILE_PATH = "/{deployment}/dags/versions/{version}/files/{path}"
DIFF_PATH = "/{deployment}/dags/diff"
DOWNLOAD_PATH = "/{deployment}/dags/download"
DEPLOYS_PATH = "/{deployment}/dags/deploys"
DEPLOY_PATH = "/{deployment}/dags/deploys/{version}"
ROLLBACK_PATH = "/{deployment}/dags/rollback"
PROMOTE_PATH = "/{deployment}/dags/promote"
STATUS_PATH = "/{deployment}/dags/status"
REPORTS_PATH = "/{deployment}/dags/reports"
FREEZE_PATH = "/{deployment}/dags/freeze"
CANDIDATES_PATH = "/{deployment}/dags/candidates"
CANDIDATE_PATH = "/{deployment}/dags/candidates/{id}"
DEPLOYMENTS_PATH = "/-/deployments"
DEPLOYMENT_PATH = "/-/deployments/{name}"
WHOAMI_PATH = "/-/whoami"
"""Replace what is in braces; ``{path}`` keeps its slashes. A server's URL may have a path of its own before these. What
is under ``/-/`` belongs to no deployment: none can have this name."""
IMPLIED_UPLOAD_PATH = "/upload"
"""``UPLOAD_PATH`` of the server's only deployment, or of ``default`` if it has several."""

FROM = "from"
"""The query parameter of ``VERSION_PATH`` that names the version a patch is to start from, and of ``DIFF_PATH`` that
names the version to compare with."""
TO = "to"
"""The query parameter of ``DIFF_PATH`` that names the version whose differences are asked for."""
VERSION = "version"
"""The query parameter of ``DOWNLOAD_PATH`` that names the version."""
ROOT = "root"
"""The query parameter of ``UPLOAD_PATH`` that names the folder of the archive to deploy."""
DESCRIPTION = "description"
"""The query parameter of ``UPLOAD_PATH``, or the field of its form, with the description of the deploy."""
GIT = "git"
"""The query parameter of ``UPLOAD_PATH``, or the field of its form, that says where the content comes from, as JSON."""
MAX_GIT_BYTES = 4096
"""The longest ``GIT``, as JSON in UTF-8."""
DRY_RUN = "dry_run"
SKIP_GATE, ALLOW_REMOVALS, OVERRIDE_FREEZE = "skip_gate", "allow_removals", "override_freeze"
"""Query parameters of what deploys, with the value ``SET``: change nothing and say what would change; deploy what the
checks would refuse; remove more than is allowed without it; deploy although the deployment is frozen."""
SKIP_IMPORT_CHECK = "skip_import_check"
"""The same, to deploy without the check by ``dagferry-checker``."""
SET = "1"
IF_MATCH = "If-Match"
"""The header of what deploys that names the version which must be the current one."""
UNDER = "under"
"""The query parameter of ``UPLOAD_PATH`` that names the folder to replace, such as ``team-a/``; all else stays."""
BASE, EXPECTED_DIGEST = "base", "digest"
"""The query parameters of ``UPLOAD_PATH`` for a change: the version it is based on, and the digest that must come out.
It is that of the whole tree, or with ``UNDER`` of the files below that folder, with paths relative to it."""
REMOVED = "removed"
"""The field of the form of ``UPLOAD_PATH`` with the paths that a change removes, as a JSON list."""
MAX_REMOVED_BYTES = 48 * 1024
"""The longest ``REMOVED``, in UTF-8. A change that removes more is to be uploaded as a complete tree."""
LIMIT, BEFORE = "limit", "before"
"""The query parameters of ``DEPLOYS_PATH``: how many deploys, and below which sequence."""

INSTANCE = "Dagferry-Instance"
COMPONENT = "Dagferry-Component"
LIVE = "Dagferry-Live"
LOG = "Dagferry-Log"
ERROR = "Dagferry-Error"
DEREGISTER = "Dagferry-Deregister"
VOLUME = "Dagferry-Volume"
ONCE = "Dagferry-Once"
IN_USE = "Dagferry-In-Use"
DIGEST = "Dagferry-Digest"
ENTRY = "Dagferry-Entry"
RETAINED = "Dagferry-Retained"
"""The header of a request for a patch: the digest of a tree that the pod still has, beside the live one."""
CHECKER = "Dagferry-Checker"
WARMING = "warming"
"""The header of a request for candidates, and its value while the checker has not yet checked what is live."""
AIRFLOW, PYTHON, VARIABLES = "Dagferry-Airflow", "Dagferry-Python", "Dagferry-Variables"
"""Headers of a request for candidates: the versions that the checker imports with, and how it reads Variables."""

MAX_WAIT_SECONDS = 50
"""The longest that a request for the current deploy or the status waits for another one. Shorter than the minute after
which proxies and load balancers close a silent connection."""
MAX_ERROR_CHARACTERS = 300
"""The maximum length of ``ERROR``, percent-encoded: the client sends no more, and the server keeps no more."""
REPORT_SECONDS = 30
"""How often what Airflow has read is reported to ``REPORTS_PATH``, at least; at once when it changed. Who was not heard
for three times as long no longer counts."""
MAX_REPORT_BYTES = 256 * 1024
"""The longest report. A longer one is refused, not truncated."""
MAX_REPORTED_ERRORS, MAX_REPORTED_VERSIONS, MAX_REPORTED_PROVIDERS = 100, 200, 200
MAX_REPORTED_HINDRANCES, MAX_REPORTED_SLOWEST = 10, 5
"""How many entries the lists of a report may have; the server drops what is above."""
MAX_TRACE_BYTES = 4096
"""The longest trace of an import error, in UTF-8: the last bytes of it."""
NOTHING_TAG = "none"
"""The ETag of the current deploy before the first one; afterwards it is the version."""

JSON_TYPE = "application/json"
BUNDLE_TYPE = "application/zstd"
PATCH_TYPE = "application/vnd.dagferry.patch"
ARCHIVE_TYPE = "application/gzip"
FILE_TYPE = "application/octet-stream"

REQUEST_HEADERS = {
    "If-None-Match": "The ETag last seen: the version in quotes.",
    "Prefer": f"`wait=N`: wait up to N seconds for a change, {MAX_WAIT_SECONDS} at most.",
    INSTANCE: "The pod that asks, such as `worker-0`. Without it, the request does not count as one by a sidecar.",
    COMPONENT: "What runs in the pod, such as `worker`.",
    LIVE: "The version that is live in the pod.",
    LOG: "The log id that this version is of: logs may have versions of the same name.",
    ERROR: f"Code and message of the pod's last error; percent-encoded, {MAX_ERROR_CHARACTERS} characters at most.",
    DEREGISTER: "`1` on the last request of a sidecar that ends. It is answered at once.",
    VOLUME: "A random id, kept on the pod's volume: two pods with one name are two, a restarted container is one.",
    IN_USE: "How many of the old trees on the pod's volume tasks still use; missing if none.",
    ONCE: "`1` if the sender ends after this deploy, as an init container does: it does not count.",
}
"""Headers of a request for the current deploy, with their meaning for the documentation."""

CHECKER_HEADERS = {
    "If-None-Match": "The ETag last seen. A checker that has just started sends none: what was found before is then "
    "checked again.",
    "Prefer": REQUEST_HEADERS["Prefer"],
    INSTANCE: "The checker that asks, such as `dagferry-checker-0`. Without it, the request does not count as one by a "
    "checker.",
    CHECKER: f"`{WARMING}` until what is live has been checked: no deploy waits for such a checker.",
    AIRFLOW: "The version of Airflow that it imports DAGs with, such as `3.3.2`.",
    PYTHON: "The version of Python that it imports DAGs with, such as `3.11.7`.",
    VARIABLES: "`stub` or `env`: how it reads Variables and Connections.",
    DEREGISTER: "`1` on the last request of a checker that ends. It is answered at once.",
}
"""Headers of a request for candidates, with their meaning for the documentation."""

ANSWER_HEADERS = {
    "ETag": f'Of the current deploy: its version in quotes, `"{NOTHING_TAG}"` before the first deploy. Of the list of '
    "a version's files: the digest in quotes. Of a file: its sha256 in quotes.",
    DIGEST: "Of a bundle, a patch, a download or a list of files: the digest of the bundle that must come out.",
    ENTRY: f"On 200 and 304 for a request that names `{LIVE}` and `{LOG}` of this log: `SEQUENCE SHA256` of the entry "
    "that the server has for this version, where SHA256 is the hash of its bytes in hex. If the log ends before it, "
    "the same of its newest entry, and the word `shared` behind it if other servers may have newer ones; `0` if it has "
    "no entry. The header is missing if the hash is not known.",
}

MEDIA_TYPES = {
    JSON_TYPE: "Answers, and errors.",
    BUNDLE_TYPE: "A bundle in canonical form.",
    PATCH_TYPE: "A patch that leads to the bundle from the version named by `from`.",
    ARCHIVE_TYPE: "A bundle as a tar.gz, for people.",
    FILE_TYPE: "One file of a bundle, whatever it contains.",
}
