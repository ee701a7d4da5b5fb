"""``dagferry verify``: checks over HTTP what the server says it has: the deploy log, and the content of versions."""

from collections.abc import Iterator
from typing import NamedTuple

import click

from dagferry_client.api import Api
from dagferry_client.chain import check_chain
from dagferry_client.checked import Checked
from dagferry_client.contents import check_digest, read_download
from dagferry_client.deploy_log import LoggedDeploy
from dagferry_client.errors import ClientError, DownloadDamaged
from dagferry_client.output import Output, Styled, size
from dagferry_client.run import Run, sub_command
from dagferry_client.versions import find_version
from dagferry_core.archive.paths import quoted
from dagferry_core.bundle.manifest import Manifest
from dagferry_core.deploylog import Known, read_known
from dagferry_core.errors import EXIT_LOCAL, EXIT_UNAVAILABLE, FormatError, SetupError

INTACT, DAMAGED, GONE = "intact", "damaged", "gone"
"""What a content can be: as the deploy log says; something else; deleted by retention."""
_STYLES = {INTACT: "green", DAMAGED: "bold red", GONE: "dim"}
_BUNDLE_GONE = "bundle_gone"


class Content(NamedTuple):
    """The content of a version, the newest one that has it. ``state`` is intact, damaged or gone."""

    version: str
    digest: str
    state: str
    files: int
    bytes: int
    problem: str


class Verified(NamedTuple):
    """What was checked. ``newest_sha256`` is the hash of the newest entry, which no other entry has yet.

    ``unknown`` counts entries in a newer format than this command knows; they were not checked.
    """

    deployment: str
    entries: int
    chained: int
    unknown: int
    newest_sha256: str
    log_problems: list[str]
    contents: list[Content]


@sub_command(
    click.argument("version", metavar="[V]", required=False),
    click.option(
        "--entry",
        type=Checked(read_known),
        metavar="SEQUENCE:SHA256",
        help="An entry that the log had: it is an error if it was rewritten or cut off.",
    ),
    click.option("-a", "--all", "everything", is_flag=True, help="Check the content of every version that is stored."),
    examples=("dagferry verify -d prod", "dagferry verify 42", "dagferry verify --all --json"),
    prints=(Verified,),
    exits={EXIT_UNAVAILABLE: "Something could not be checked.", EXIT_LOCAL: "The log or a content is not what it was."},
)
def command(run: Run, *, version: str | None, everything: bool, entry: Known | None) -> int:
    """Check the deploy log and the content of versions.

    Reads the whole log and computes its chain of hashes again; then downloads a version (without V the current one) and
    compares each file and the digest with what the log says. The exit code is 6 if anything does not match, 5 if
    something could not be checked.
    """
    if everything and version is not None:
        raise SetupError("--all and a version were both given.", "Give one of them.")
    deployment, output = run.deployment, run.output
    wanted = None if version is None else find_version(run.api, deployment, version)
    log: list[LoggedDeploy] = []

    def kept() -> Iterator[LoggedDeploy]:
        for deploy in run.api.logged(deployment):
            log.append(deploy)
            yield deploy

    chain = check_chain(kept(), entry)
    if not output.json_wanted:
        output.line(f"{deployment}: {chain.entries} entries, {chain.chained} of them chained.")
        for problem in chain.problems:
            output.styled(Styled("damaged", _STYLES[DAMAGED]), f"  {problem}")
        if chain.anchor:
            output.line(f"The newest entry has the sha256 {chain.anchor}.")
    if chain.unknown:
        output.warn(f"{chain.unknown} entries have a newer format than this command knows, and were not checked.")
    contents = list(_contents(run.api, deployment, _chosen(log, wanted, everything=everything), output))
    if output.json_wanted:
        output.json(
            Verified(deployment, chain.entries, chain.chained, chain.unknown, chain.anchor, chain.problems, contents)
        )
    if chain.problems or any(content.state == DAMAGED for content in contents):
        output.warn("The log or a content is not what it was. Ask the server's operator to run: dagferry-server verify")
        return EXIT_LOCAL
    return EXIT_UNAVAILABLE if chain.unknown else 0


def _chosen(log: list[LoggedDeploy], wanted: str | None, *, everything: bool) -> list[LoggedDeploy]:
    """Return the deploys whose content is to be checked: of several with one content, the newest."""
    if everything:
        newest: dict[str, LoggedDeploy] = {}
        for deploy in log:
            newest.setdefault(deploy.digest, deploy)
        return list(newest.values())
    return [deploy for deploy in log if deploy.version == wanted] if wanted else log[:1]


def _contents(api: Api, deployment: str, deploys: list[LoggedDeploy], output: Output) -> Iterator[Content]:
    for deploy in deploys:
        output.say(f"Downloading {deploy.version} …")
        found = _content(api, deployment, deploy)
        if not output.json_wanted:
            what = (
                f"{found.files} file{'s' * (found.files != 1)}, {size(found.bytes)}"
                if found.state == INTACT
                else found.problem
            )
            output.styled(Styled(found.state, _STYLES[found.state]), f"  {found.version}  {what}")
        yield found


def _content(api: Api, deployment: str, deploy: LoggedDeploy) -> Content:
    found = Content(deploy.version, deploy.digest, INTACT, 0, 0, "")
    try:
        listed = api.files(deployment, deploy.version).manifest()
        check_digest(deploy.version, listed, deploy.digest)
        with api.download(deployment, deploy.version) as pieces:
            downloaded = read_download(pieces, lambda _entry, _content: None)
    except (DownloadDamaged, FormatError) as error:
        return found._replace(state=DAMAGED, problem=str(error))
    except ClientError as error:
        if error.reason != _BUNDLE_GONE:
            raise
        return found._replace(state=GONE, problem="no longer stored")
    found = found._replace(files=len(downloaded.files), bytes=downloaded.size)
    problem = _first_difference(listed, downloaded)
    return found._replace(state=DAMAGED, problem=problem) if problem else found


def _first_difference(listed: Manifest, downloaded: Manifest) -> str:
    """Return a sentence about the first file that is not what the manifest says; empty if there is none."""
    differing = sorted(path for paths in downloaded.changes_from(listed) for path in paths)
    if not differing:
        return ""
    more = f", and {len(differing) - 1} more files" if len(differing) > 1 else ""
    return f"{quoted(differing[0])} is not what the manifest says{more}"
