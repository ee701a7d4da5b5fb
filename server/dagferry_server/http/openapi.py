"""The OpenAPI description of the table of routes. Schemas come from the models, responses from the table of errors."""

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dagferry_core import __version__
from dagferry_core.errors import DagferryError
from dagferry_core.protocol import DESCRIPTION, GIT, JSON_TYPE
from dagferry_server.errors import (
    CredentialsRefused,
    DeploymentNotFound,
    Forbidden,
    IssuerUnavailable,
    MethodNotAllowed,
    OriginRefused,
    RequestError,
    RouteNotFound,
    Unauthenticated,
)
from dagferry_server.http.models import ErrorAnswer
from dagferry_server.http.routing import Parameter, Route

COMMON_ERRORS = (RequestError, RouteNotFound, MethodNotAllowed, OriginRefused, DagferryError)
WHO_ERRORS = (Unauthenticated, CredentialsRefused, Forbidden, IssuerUnavailable)
_Wanted = tuple[type[BaseModel], Literal["serialization", "validation"]]
_REFERENCE = "#/components/schemas/"
_BINARY = {"type": "string", "format": "binary"}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of ``routes``."""
    routes = list(routes)
    models: dict[type[BaseModel], None] = {ErrorAnswer: None}
    models.update((route.answer, None) for route in routes if not isinstance(route.answer, tuple))
    bodies = dict.fromkeys(route.body for route in routes if route.body)
    answers: list[_Wanted] = [(model, "serialization") for model in models]
    wanted: list[_Wanted] = [*answers, *((model, "validation") for model in bodies)]
    _, schemas = models_json_schema(wanted, ref_template=_REFERENCE + "{model}")
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dagferry", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def errors_of(route: Route) -> list[type[DagferryError]]:
    """Return every error that ``route`` may answer with, including those common to all routes."""
    about_callers = (*WHO_ERRORS, *((DeploymentNotFound,) * ("{" in route.path))) if route.scope else ()
    return list(dict.fromkeys((*about_callers, *route.errors, *COMMON_ERRORS)))


def _operation(route: Route) -> dict[str, Any]:
    names = [segment.strip("{}") for segment in route.path.split("/") if segment.startswith("{")]
    operation: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"[a-z]+", route.path)]),
        "summary": route.summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
            *map(_parameter, route.parameters),
        ],
        "responses": _responses(route),
        # The empty alternative is for a server without credentials.
        "security": [{"token": []}, {}] if route.scope else [],
    }
    if route.body:
        operation["requestBody"] = {"required": True, "content": {JSON_TYPE: {"schema": _reference(route.body)}}}
    if route.takes_file:
        texts = {name: {"type": "string"} for name in (DESCRIPTION, GIT)}
        form = {"type": "object", "properties": {"file": _BINARY, **texts}}
        operation["requestBody"] = {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {**form, "required": ["file"]}},
                "application/octet-stream": {"schema": _BINARY},
            },
        }
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": {"type": parameter.kind},
    }


def _responses(route: Route) -> dict[str, Any]:
    if isinstance(route.answer, tuple):
        content = {media_type: {"schema": _BINARY} for media_type in route.answer}
    else:
        content = {JSON_TYPE: {"schema": _reference(route.answer)}}
    responses: dict[str, Any] = {"200": {"description": "Success.", "content": content}}
    if route.not_modified:
        responses["304"] = {"description": "Nothing newer than what the caller has seen."}
    by_status: dict[int, list[type[DagferryError]]] = {}
    for error in errors_of(route):
        by_status.setdefault(error.status, []).append(error)
    for status, errors in sorted(by_status.items()):
        descriptions = "; ".join(f"`{error.code}`: {(error.__doc__ or '').splitlines()[0]}" for error in errors)
        details = {name: {"description": text} for error in errors for name, text in error.detail_fields.items()}
        codes = {"properties": {"code": {"enum": [error.code for error in errors]}, **details}}
        responses[str(status)] = {
            "description": descriptions,
            "content": {JSON_TYPE: {"schema": {"allOf": [_reference(ErrorAnswer), codes]}}},
        }
    return responses


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE + model.__name__}
