"""Which files are parsed again: by the rule with which followers touch files."""

from pathlib import Path

import pytest

from dagferry_checker import affected
from dagferry_checker.affected import Sources, to_parse
from treemaker import manifest_of

OLD = {"a.py": b"import shop", "b.py": b"open('q.sql')", "c.py": b"", "shop.py": b"x = 1", "q.sql": b"select"}


@pytest.fixture
def affected_by(tmp_path):
    sources = Sources()

    def find(change: dict[str, bytes | None]) -> set[str]:
        new = {path: text for path, text in {**OLD, **change}.items() if text is not None}
        for path, text in new.items():
            (tmp_path / path).write_bytes(text)
        return sources.affected(manifest_of(OLD), manifest_of(new), str(tmp_path))

    return find


def test_a_changed_file_and_what_imports_or_reads_it(affected_by) -> None:
    assert affected_by({"c.py": b"y = 1"}) == {"c.py"}
    assert affected_by({"shop.py": b"x = 2"}) == {"shop.py", "a.py"}
    assert affected_by({"q.sql": b"SELECT"}) == {"q.sql", "b.py"}
    assert affected_by({"shop.py": None}) == {"a.py"}
    assert affected_by({}) == set()


def test_a_file_too_large_to_look_at_depends_on_everything(affected_by, monkeypatch) -> None:
    monkeypatch.setattr(affected, "MAX_SOURCE_BYTES", 5)
    assert "a.py" in affected_by({"q.sql": b"SELECT"})


def test_a_file_that_cannot_be_read_depends_on_everything(tmp_path) -> None:
    new = manifest_of({**OLD, "q.sql": b"SELECT"})
    assert {"a.py", "b.py", "c.py"} <= Sources().affected(manifest_of(OLD), new, str(tmp_path / "gone"))


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path) -> None:
    for path in OLD:
        (tmp_path / path).symlink_to("/dev/zero")
    assert "c.py" in Sources().affected(manifest_of(OLD), manifest_of({**OLD, "q.sql": b""}), str(tmp_path))


def test_what_is_known_is_kept_for_a_bounded_number_of_contents(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(affected, "MAX_KNOWN", 2)
    for path, text in OLD.items():
        Path(tmp_path, path).write_bytes(text)
    sources = Sources()
    assert sources.affected(manifest_of(OLD), manifest_of({**OLD, "q.sql": b""}), str(tmp_path)) == {"b.py", "q.sql"}
    assert len(sources._facts) == 2


def test_dag_files_that_were_never_parsed_are_parsed() -> None:
    assert list(to_parse(["a.py", "b.py", "c.py"], {"a.py", "b.py"}, {"b.py", "shop.py"})) == ["b.py", "c.py"]
