"""What can be asked for and what comes back, as an OpenAPI document: a promise, which a test holds the answers to."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

from vmwatch.models import ChannelState, DeliveryState, Kind, LineState, Reason
from vmwatch.web.query import DEFAULTS, MOST

Schema: TypeAlias = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer"}
_TRUTH: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time", "description": "UTC"}
_OPEN: list[Schema] = [{}, {"bearer": []}]


def _or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _one_of(words: type[StrEnum]) -> Schema:
    return {"type": "string", "enum": [word.value for word in words]}


def _object(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


_LINE = _object(
    name=_TEXT,
    label=_TEXT,
    number=_TEXT,
    state=_one_of(LineState),
    reason=_one_of(Reason),
    detail=_or_null(_TEXT),
    since=_TIME,
    last_poll_at=_or_null(_TIME),
    last_success_at=_or_null(_TIME),
    next_poll_at=_or_null(_TIME),
    failures=_COUNT,
    new=_or_null(_COUNT),
    old=_or_null(_COUNT),
    saved=_or_null(_COUNT),
    stale=_TRUTH | {"description": "not read for three intervals, though nothing is wrong with it"},
)
_CHANNEL = _object(
    name=_TEXT,
    state=_one_of(ChannelState),
    pending=_COUNT,
    dead=_COUNT,
    last_sent_at=_or_null(_TIME),
    last_error=_or_null(_TEXT),
)
_PROCESS = _object(
    name=_TEXT,
    version=_TEXT,
    since=_TIME,
    seen_at=_or_null(_TIME),
    polls={"type": "integer", "description": "begun within the minute before seen_at"},
    deliveries={"type": "integer", "description": "begun within the minute before seen_at"},
)
_STATUS = _object(
    daemon=_object(running=_TRUTH, since=_or_null(_TIME), version=_or_null(_TEXT)),
    processes=_list(_PROCESS),
    disagreements=_list(_TEXT),
    lines=_list(_LINE),
    channels=_list(_CHANNEL),
)
_MESSAGE = _object(
    line=_TEXT,
    id=_TEXT,
    caller=_or_null(_TEXT),
    caller_name=_or_null(_TEXT),
    contact=_or_null({"type": "string", "description": "the caller's name in the address book"}),
    called=_or_null(_TEXT),
    call_id=_or_null(_TEXT),
    received_at=_or_null(_TIME),
    length=_or_null({"type": "integer", "description": "seconds"}),
    first_seen_at=_TIME,
    left_new_at=_or_null(_TIME),
    box=_or_null(_TEXT),
    played=_or_null(_TRUTH),
    acked_at=_or_null(_TIME),
    snoozed_until=_or_null(_TIME),
)
_DELIVERY = _object(
    waits=_or_null(_TEXT),
    id=_COUNT,
    kind=_one_of(Kind),
    line=_or_null(_TEXT),
    message=_or_null(_TEXT),
    channel=_TEXT,
    state=_one_of(DeliveryState),
    attempts=_COUNT,
    next_attempt_at=_or_null(_TIME),
    sent_at=_or_null(_TIME),
    last_error=_or_null(_TEXT),
)
_HEALTH = _object(healthy=_TRUTH, reason=_TEXT)
_READINESS = _object(
    ready=_TRUTH,
    reason=_TEXT,
    checks=_object(rounds=_or_null(_TEXT), ledger=_or_null(_TEXT), lines=_or_null(_TEXT)),
)
_ERROR = _object(error=_TEXT)


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(schema: Schema, about: str) -> Schema:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: int) -> Schema:
    words = {
        400: "What stands behind the ?, or the request itself, is not understood.",
        401: "The token is missing or wrong.",
        403: "The Host header names another server.",
        404: "There is no such line.",
        413: "The request has a body.",
        503: "The store can't be read.",
    }
    return {str(status): _content(_named("Error"), words[status]) for status in statuses}


def _path(about: str, schema: Schema, *parameters: Schema, also: Schema | None = None) -> Schema:
    always = _refusals(400, 401, 403, 413)
    operation = {
        "summary": about,
        "parameters": list(parameters),
        "responses": {"200": _content(schema, about), **always, **(also or _refusals(503))},
    }
    return {"get": operation}


def _parameter(name: str, schema: Schema, about: str) -> Schema:
    return {"name": name, "in": "query", "description": about, "schema": schema}


def _limit(path: str) -> Schema:
    schema = {"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULTS[path].limit}
    return _parameter("limit", schema, "at most so many, the latest first")


_FLAG: Schema = {
    "type": "string",
    "enum": ["1", "0", "true", "false", ""],
    "default": "0",
    "description": "the name alone is as good as 1",
}
_METRICS: Schema = {
    "description": "Metrics for Prometheus; as OpenMetrics where the Accept header names that.",
    "content": {"text/plain": {"schema": _TEXT}, "application/openmetrics-text": {"schema": _TEXT}},
}
_PATHS: Schema = {
    "/api/status": _path("Lines and channels, as `vmwatch status --json`.", _named("Status")),
    "/api/messages": _path(
        "Voicemails seen, the latest first, as `vmwatch messages --json`.",
        _list(_named("Message")),
        _parameter("line", _TEXT, "a line's name or number"),
        _parameter("new", _FLAG, "only those that are still new"),
        _limit("/api/messages"),
        also=_refusals(404, 503),
    ),
    "/api/outbox": _path(
        "Deliveries that are pending or dead, as `vmwatch outbox --json`.",
        _list(_named("Delivery")),
        _parameter("all", _FLAG, "sent and withdrawn ones too"),
        _limit("/api/outbox"),
    ),
    "/healthz": _path("Whether the process lives.", _named("Health"), also={}),
    "/readyz": _path(
        "Whether rounds complete, the store is written, and a line is read.",
        _named("Readiness"),
        also={"503": _content({"anyOf": [_named("Readiness"), _named("Error")]}, "It is not.")},
    ),
    "/metrics": {"get": {"summary": "Metrics.", "responses": {"200": _METRICS, **_refusals(400, 401, 403, 413, 503)}}},
    "/api/openapi.json": _path("This document.", {"type": "object"}, also={}),
}


def document(version: str) -> Schema:
    return {
        "openapi": "3.1.0",
        "info": {"title": "vmwatch", "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "security": _OPEN,
        "paths": _PATHS,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "web.token, if set"}},
            "schemas": {
                "Status": _STATUS,
                "Message": _MESSAGE,
                "Delivery": _DELIVERY,
                "Health": _HEALTH,
                "Readiness": _READINESS,
                "Error": _ERROR,
            },
        },
    }
