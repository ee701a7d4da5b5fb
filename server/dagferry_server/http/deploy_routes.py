"""The routes of what deploys: uploads, rollbacks, promotes; see ``routes`` for the others."""

from dagferry_core.archive.errors import (
    ArchiveCorrupt,
    ArchiveNotRecognized,
    ArchiveTrailingData,
    ArchiveTruncated,
    ArchiveUnsupported,
    BundleEmpty,
    ExpandedTooLarge,
    LinkRefused,
    MemberTypeRefused,
    PathConflict,
    PathDuplicate,
    PathRefused,
    PathsTooLarge,
    RatioTooHigh,
    RootIsLink,
    RootMixed,
    RootNotFound,
    TooManyFiles,
    WindowTooLarge,
)
from dagferry_core.deploylog import PROMOTE, ROLLBACK, UPLOAD
from dagferry_core.errors import DagferryError
from dagferry_core.protocol import (
    ALLOW_REMOVALS,
    BASE,
    DESCRIPTION,
    DRY_RUN,
    EXPECTED_DIGEST,
    GIT,
    IF_MATCH,
    IMPLIED_UPLOAD_PATH,
    OVERRIDE_FREEZE,
    PROMOTE_PATH,
    REMOVED,
    ROLLBACK_PATH,
    ROOT,
    SET,
    SKIP_GATE,
    SKIP_IMPORT_CHECK,
    UNDER,
    UPLOAD_PATH,
)
from dagferry_server.errors import (
    BaseGone,
    BundleGone,
    ChangeMismatch,
    CheckerAway,
    DeployContended,
    DeploymentDisabled,
    DeploymentFrozen,
    GateRefused,
    GateUnavailable,
    ImportCheckPending,
    ImportCheckRefused,
    MultipartInvalid,
    NothingDeployed,
    RemovalsRefused,
    RequestError,
    ServerBusy,
    ShuttingDown,
    StoreAway,
    StoreDamaged,
    StoreFull,
    TooManyUploads,
    UploadEmptyBody,
    UploadIncomplete,
    UploadTooLarge,
    UploadTooSlow,
    VersionMismatch,
    VersionNotFound,
)
from dagferry_server.http.deploy_request import Git
from dagferry_server.http.handlers.promote import PromoteBody, promote
from dagferry_server.http.handlers.rollback import RollbackBody, rollback
from dagferry_server.http.handlers.upload import upload
from dagferry_server.http.models import (
    UploadAnswer,
)
from dagferry_server.http.routing import Parameter, Route

_DEPLOY_ERRORS: tuple[type[DagferryError], ...] = (
    RequestError,
    VersionMismatch,
    GateRefused,
    RemovalsRefused,
    GateUnavailable,
    ImportCheckRefused,
    ImportCheckPending,
    CheckerAway,
    ShuttingDown,
    TooManyUploads,
    UploadIncomplete,
    UploadTooSlow,
    ServerBusy,
    DeploymentDisabled,
    DeploymentFrozen,
    DeployContended,
    StoreFull,
    StoreAway,
    StoreDamaged,
)
_UPLOAD_ERRORS: tuple[type[DagferryError], ...] = (
    RequestError,
    MultipartInvalid,
    UploadEmptyBody,
    UploadTooLarge,
    ArchiveNotRecognized,
    ArchiveTruncated,
    ArchiveCorrupt,
    ArchiveTrailingData,
    ArchiveUnsupported,
    WindowTooLarge,
    MemberTypeRefused,
    PathRefused,
    PathDuplicate,
    PathConflict,
    LinkRefused,
    RootMixed,
    RootIsLink,
    RootNotFound,
    BundleEmpty,
    ExpandedTooLarge,
    TooManyFiles,
    PathsTooLarge,
    RatioTooHigh,
    BaseGone,
    ChangeMismatch,
    *_DEPLOY_ERRORS,
)
_LIMIT_ERRORS: tuple[type[DagferryError], ...] = (PathConflict, ExpandedTooLarge, TooManyFiles, PathsTooLarge)
_DEPLOY_PARAMETERS = (
    Parameter(IF_MATCH, "header", "The version that must be the current one, in double quotes; `*`: any."),
    Parameter(DRY_RUN, "query", f"`{SET}`: store nothing, and say what would change."),
    Parameter(SKIP_GATE, "query", f"`{SET}`: deploy what the checks would refuse; needs the scope `override`."),
    Parameter(ALLOW_REMOVALS, "query", f"`{SET}`: remove more DAGs than allowed; needs the scope `override`."),
    Parameter(SKIP_IMPORT_CHECK, "query", f"`{SET}`: deploy without a check by a checker; needs the scope `override`."),
    Parameter(OVERRIDE_FREEZE, "query", f"`{SET}`: deploy to a frozen deployment; needs the scope `override`."),
)

_UPLOAD = Route(
    method="POST",
    path=UPLOAD_PATH,
    scope="deploy",
    handler=upload,
    summary="Deploy an archive of a dags folder: a form with one file, or the file as the body.",
    answer=UploadAnswer,
    errors=_UPLOAD_ERRORS,
    parameters=(
        Parameter(
            ROOT,
            "query",
            "Deploy only this folder of the archive; `.`: the whole archive, even if its members are under `dags/`.",
        ),
        Parameter(DESCRIPTION, "query", "The description of the deploy, unless a form has a field `description`."),
        Parameter(
            GIT,
            "query",
            "Where the content comes from: a JSON object of texts with the keys "
            f"{', '.join(f'`{name}`' for name in Git.model_fields)}; a form may have it as a field.",
        ),
        Parameter(UNDER, "query", "The folder that the archive replaces, such as `team-a/`; all else stays as it is."),
        Parameter(
            BASE,
            "query",
            "The version that the archive is a change of: it has only the files that changed, at their own paths. A "
            f"form may have a field `{REMOVED}` with the paths that go, as a JSON list.",
        ),
        Parameter(
            EXPECTED_DIGEST, "query", f"The digest of the tree that must come out, or of what is below `{UNDER}`."
        ),
        *_DEPLOY_PARAMETERS,
    ),
    takes_file=True,
    kind=UPLOAD,
)

DEPLOY_ROUTES: tuple[Route, ...] = (
    _UPLOAD,
    _UPLOAD._replace(
        path=IMPLIED_UPLOAD_PATH,
        implied_deployment=True,
        summary="The same for the server's only deployment, or for `default` if it has several.",
    ),
    Route(
        method="POST",
        path=ROLLBACK_PATH,
        scope="deploy",
        handler=rollback,
        summary="Deploy the content of an older version again, without an upload.",
        answer=UploadAnswer,
        errors=(*_DEPLOY_ERRORS, *_LIMIT_ERRORS, VersionNotFound, BundleGone),
        parameters=_DEPLOY_PARAMETERS,
        body=RollbackBody,
        kind=ROLLBACK,
    ),
    Route(
        method="POST",
        path=PROMOTE_PATH,
        scope="deploy",
        handler=promote,
        summary="Deploy what another deployment of this server has (scope `read` on it), without an upload.",
        answer=UploadAnswer,
        errors=(*_DEPLOY_ERRORS, *_LIMIT_ERRORS, BundleEmpty, VersionNotFound, NothingDeployed, BundleGone),
        parameters=_DEPLOY_PARAMETERS,
        body=PromoteBody,
        kind=PROMOTE,
    ),
)
"""Every endpoint that adds a deploy."""
