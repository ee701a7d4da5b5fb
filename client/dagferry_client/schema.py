"""JSON Schemas of what ``--json`` prints, made from the types that are printed.

A schema lists what is there today. Later versions may add fields, so it allows others.
"""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def json_schema(title: str, url: str, printed: Sequence[type]) -> dict[str, Any]:
    """Return the schema, which is published at ``url``, of what is printed: one of the NamedTuples ``printed``."""
    known: dict[str, Any] = {}
    any_of = [_of(one, known) for one in printed]
    return {
        "$schema": DIALECT,
        "$id": url,
        "title": title,
        **(any_of[0] if len(any_of) == 1 else {"anyOf": any_of}),
        "$defs": dict(sorted(known.items())),
    }


def _of(annotation: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; those of the NamedTuples that it has in it are added to ``known``, by name."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return {"type": _PLAIN[annotation]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in {list, tuple, Sequence}:
        return {"type": "array", "items": _of(arguments[0], known)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _of(arguments[1], known)}
    if origin is UnionType:
        return _any(arguments, known)
    if annotation.__name__ not in known:
        known[annotation.__name__] = {}  # it may have itself in it
        known[annotation.__name__] = _object(annotation, known)
    return {"$ref": f"#/$defs/{annotation.__name__}"}


def _any(annotations: Sequence[Any], known: dict[str, Any]) -> dict[str, Any]:
    if all(one in _PLAIN for one in annotations):
        return {"type": [_PLAIN[one] for one in annotations]}
    return {"anyOf": [_of(one, known) for one in annotations]}


def _object(annotation: Any, known: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": " ".join((annotation.__doc__ or "").replace("``", "`").split()),
        "properties": {name: _of(one, known) for name, one in annotation.__annotations__.items()},
        "required": list(annotation._fields),
    }
