"""What is different in the objects of a Helm chart, by path, and whether that is what a row of the table says.

A path is ``Kind/name:a.b[c].d``; an item of a list is called by its name, its text, or its place.
"""

import re
import sys
from typing import Any, NamedTuple

from charts import Document

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GONE = "gone"


class Row(NamedTuple):
    """Values, and what they change: the new content of each path; GONE if there is none.

    ``base`` are the values that they are compared to, and that they are added to; none by default.
    """

    name: str
    values: dict[str, Any]
    changes: dict[str, Any]
    base: dict[str, Any] = {}  # noqa: RUF012

    @property
    def whole(self) -> dict[str, Any]:
        """The values, with those of the base."""
        return merged(self.base, self.values)


def merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as Helm adds them to those of a base: by key, at every depth."""
    inside = {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in values.items()
    }
    return {**base, **inside}


def leaves(value: Any, path: str) -> dict[str, Any]:
    """Return what is in ``value``, by path. A mapping whose keys are no plain words is one leaf."""
    if isinstance(value, str):  # without a cluster, a token is a new one each time, and so is what servers share
        value = re.sub("^[0-9a-f]{64}$", "SHA", re.sub("^(dgf_)?[A-Za-z0-9]{43}$", "TOKEN", value))
    if isinstance(value, dict) and value and all(re.fullmatch(r"[\w-]+", key) for key in value):
        return {place: leaf for key, item in value.items() for place, leaf in leaves(item, f"{path}.{key}").items()}
    if isinstance(value, list) and value:
        named = {called(item, number): item for number, item in enumerate(value)}
        return {place: leaf for name, item in named.items() for place, leaf in leaves(item, f"{path}[{name}]").items()}
    return {path: value}


def opened(document: Document) -> Document:
    """Return an object with its TOML parsed, such as ``data.tokens_toml.tokens``."""
    return {
        key: {
            name.replace(".", "_"): tomllib.loads(text) if name.endswith(".toml") else text
            for name, text in value.items()
        }
        if key in {"data", "stringData"}
        else value
        for key, value in document.items()
    }


def called(item: Any, number: int) -> str | int:
    """Return the name of an item of a list."""
    if isinstance(item, str):
        return item
    return item.get("name", number) if isinstance(item, dict) else number


def parts(name: str, document: Document) -> dict[str, Any]:
    """Return all of an object, by path."""
    return {place.replace(":.", ":"): leaf for place, leaf in leaves(opened(document), f"{name}:").items()}


def changes(old: dict[str, Document], new: dict[str, Document]) -> dict[str, Any]:
    """Return what is different in ``new``, by path; of an object that is gone or new only its name."""
    found: dict[str, Any] = dict.fromkeys(old.keys() - new.keys(), GONE)
    found |= {name: new[name] for name in new.keys() - old.keys()}
    for name in old.keys() & new.keys():
        before, after = parts(name, old[name]), parts(name, new[name])
        found |= dict.fromkeys(before.keys() - after.keys(), GONE)
        found |= {place: leaf for place, leaf in after.items() if place not in before or before[place] != leaf}
    return found


def expected(row: Row, old: dict[str, Document], new: dict[str, Document]) -> dict[str, Any]:
    """Return the changes of a row in the form of ``changes``. A new object may be named with a part of its content."""
    found: dict[str, Any] = {}
    for place, value in row.changes.items():
        name, inside, _ = place.partition(":")
        if not inside and value != GONE:
            assert contains(new[name], value), f"{name} is {new[name]}"
            found[name] = new[name]
        elif inside and value == GONE:
            gone = [part for part in parts(name, old[name]) if part.startswith((f"{place}.", f"{place}["))]
            found |= dict.fromkeys(gone or [place], GONE)
        else:
            found |= leaves(value, place)
    return found


def contains(whole: Any, part: Any) -> bool:
    """Return whether ``whole`` has everything in ``part``."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    return bool(whole == part)
