"""CONTRIBUTING.md knows the tools, the targets and the folders that there are."""

import re

from deployfiles import HOME

TEXT = (HOME / "CONTRIBUTING.md").read_text()


def section(title: str) -> str:
    found = re.split(rf"^##+ {title}\n", TEXT, flags=re.MULTILINE)
    assert len(found) == 2, title
    return re.split(r"^##", found[1], flags=re.MULTILINE)[0]


def test_every_tool_of_the_tests_is_listed() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", section("The tools of the tests"), re.MULTILINE)
    there = {path.stem for path in (HOME / "tests").glob("*.py")} - {"conftest"}
    assert sorted(documented) == sorted(name for name in there if not name.startswith("test_"))


def test_the_targets_of_make_are_there() -> None:
    [phony] = re.findall(r"^\.PHONY: (.*)$", (HOME / "Makefile").read_text(), re.MULTILINE)
    documented = set(re.findall(r"(?:^    |`)make ([a-z-]+)", TEXT, re.MULTILINE))
    assert {"quick", "test", "check"} <= documented <= set(phony.split())


def test_the_folders_are_there() -> None:
    documented = re.findall(r"^\| `([\w/]+)` \|", section("Where things live"), re.MULTILINE)
    assert documented
    assert all((HOME / folder).is_dir() for folder in documented)


def test_the_links_lead_somewhere() -> None:
    pages = ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "changes/README.md"]
    for page in (HOME / name for name in pages):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
