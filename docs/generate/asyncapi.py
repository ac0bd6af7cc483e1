"""The AsyncAPI 3 description of the topics, from the message structs and what `docs.generate.topics` says of them."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml

from docs.generate.topics import FIELDS, TOPICS
from repstream import __version__


def asyncapi() -> dict[str, Any]:
    """Return the document."""
    kinds = list(FIELDS)
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schemas = _as_draft_7(schemas)
    for kind in kinds:
        _describe(schemas[kind.__name__], kind)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Repstream",
            "version": __version__,
            "description": "Topics of Repstream. JSON in UTF-8; readers ignore unknown fields and refuse an unknown `v`.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {_channel(t.name): _channel_of(t) for t in TOPICS},
        "operations": dict(_operations()),
        "components": {
            "schemas": schemas,
            "messages": {
                kind.__name__: {
                    "name": kind.__name__,
                    "contentType": "application/json",
                    "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
                }
                for kind in kinds
            },
        },
    }


def asyncapi_yaml() -> str:
    """Return the document as YAML."""
    return yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=120)


def asyncapi_page() -> str:
    """Write the page that shows the document."""
    return (
        "# AsyncAPI\n\n"
        "The topics as an [AsyncAPI](https://www.asyncapi.com/docs/reference/specification/v3.0.0) 3.0 document, made from "
        "the message structs in `repstream/messages` ([asyncapi.yaml](asyncapi.yaml)). "
        "[Topics and messages](messages.md) says the same in tables.\n\n"
        f"```yaml\n{asyncapi_yaml()}```\n"
    )


def _channel(topic: str) -> str:
    return topic.replace(".", "-")


def _channel_of(topic: Any) -> dict[str, Any]:
    messages = {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in topic.messages}
    return {
        "address": topic.name,
        "description": f"{topic.text} Key: {topic.key}.",
        **({"messages": messages} if messages else {}),
        "bindings": {"kafka": {"topic": topic.name, "bindingVersion": "0.5.0"}},
    }


def _operations() -> Any:
    for topic in TOPICS:
        for action, services in (("send", topic.writers), ("receive", topic.readers)):
            for service in services:
                yield (
                    f"{service}-{action}-{_channel(topic.name)}",
                    {"action": action, "channel": {"$ref": f"#/channels/{_channel(topic.name)}"}, "title": service},
                )


def _as_draft_7(schema: Any) -> Any:
    """Write tuples of one type as AsyncAPI's schemas have them: arrays of a fixed length."""
    if isinstance(schema, list):
        return [_as_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _as_draft_7(part) for key, part in schema.items()}
    if parts := schema.pop("prefixItems", None):
        schema["items"] = parts[0]
    return schema


def _describe(schema: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    """Add descriptions and limits to a message's schema."""
    schema["description"] = re.sub(r"\s+", " ", (kind.__doc__ or "").split("\n\n")[0]).strip()
    for name, found in schema["properties"].items():
        said = FIELDS[kind].get(name)
        if said is None:  # the tag that tells two messages of a topic apart
            continue
        unit = f" ({said.unit})" if said.unit else ""
        found["description"] = f"{said.text}{unit}"
        # Limits are on the value, not on the null that stands for its absence.
        of_value = next((s for s in found.get("anyOf", []) if s.get("type") != "null"), found)
        for key, limit in said.limits.items():
            if key == "items":
                of_value["items"] = {**of_value.get("items", {}), **limit}
            else:
                of_value[key] = limit
