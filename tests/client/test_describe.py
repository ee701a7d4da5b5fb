"""How deploys are put into words."""

from dagferry_client.deploy_log import LoggedDeploy
from dagferry_client.describe import git, in_words, kind, table
from dagferry_client.output import Output, Styled
from recorded_answers import logged


def test_a_deploy_says_where_its_content_came_from() -> None:
    def said(**changed: str) -> str:
        return kind(LoggedDeploy(**logged(**changed)))

    assert said() == "upload"
    assert said(kind="rollback", source="V") == "rollback to V"
    assert said(kind="promote", source="staging@V") == "promote of staging@V"
    assert said(kind="later", source="x") == "later of x"


def test_commit_and_branch_are_short() -> None:
    assert git(None) == git({}) == ""
    assert git({"commit": "0123456789abcdef"}) == "0123456789ab"
    assert git({"branch": "main"}) == "main"
    assert git({"commit": "0123456789abcdef", "branch": "main"}) == "0123456789ab (main)"


def test_one_file_is_not_files() -> None:
    assert in_words(1, 0, 2) == "1 file added, 0 changed, 2 removed"
    assert in_words(0, 0, 0) == "0 files added, 0 changed, 0 removed"


def test_a_column_without_anything_is_left_out(capsys) -> None:
    table(Output(), ("A", "B", "C"), [("1", "", ""), ("2", "", Styled("x", "red"))])
    assert capsys.readouterr().out == "A  C\n1\n2  x\n"
