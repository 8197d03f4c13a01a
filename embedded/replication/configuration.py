"""What the configuration of a source or destination means, whichever connector it is for.

Two kinds of connectors: those of this server (connectors.py), with models, and those of PyPI (protocol_connectors),
with the JSON schema that they print as their specification.
"""

from __future__ import annotations

from typing import Any

import jsonschema
from psycopg.rows import DictRow

from embedded.replication.connectors import (
    AVAILABLE,
    MASK,
    SECRET_FIELDS,
    ConfigurationError,
    Connector,
    S3Destination,
    parse,
)
from embedded.replication.protocol_connectors import messages, registry
from embedded.replication.protocol_connectors.registry import Definition, NotInstalled
from embedded.replication.s3.layout import LayoutError, layout

Choice = Connector | Definition

# A connector masks its secrets in everything it prints: shorter ones, or ordinary words, would tear its messages apart.
SHORTEST_SECRET = 5


def find(kind: str, configuration: dict[str, Any], definition_id: str | None) -> Choice:
    """The connector that a create request means, by type field or definition id; raises ConfigurationError."""
    own = AVAILABLE[kind]
    others = registry.definitions() if kind == "source" else {}
    field = f"{kind}Type"
    named = configuration.get(field)
    if named is None and definition_id:
        for choice in (*own.values(), *others.values()):
            if str(identity(choice)) == definition_id.lower():
                return choice
        raise ConfigurationError(f"definitionId {definition_id}: not available here")
    found: Choice | None = own.get(str(named)) or others.get(str(named))
    if found is None:
        names = ", ".join([*own, *others])
        raise ConfigurationError(f"configuration.{field} is {named!r}; this server has: {names}")
    return found


def of(row: DictRow) -> Choice | None:
    """The connector of a stored source or destination; None where its lock file was taken away."""
    return AVAILABLE[row["kind"]].get(row["type"]) or registry.definitions().get(row["type"])


def identity(choice: Choice) -> Any:
    return choice.definition_id if isinstance(choice, Definition) else choice.DEFINITION_ID


def type_of(choice: Choice) -> str:
    return choice.type if isinstance(choice, Definition) else choice.TYPE


def validated(kind: str, choice: Choice, configuration: dict[str, Any]) -> dict[str, Any]:
    """The given keys, checked, with their types put right where the model knows how; raises ConfigurationError."""
    if isinstance(choice, Definition):
        plain = {key: value for key, value in configuration.items() if key != f"{kind}Type"}
        _check(choice, plain)
        return plain
    model = parse(choice, configuration)
    if isinstance(model, S3Destination):
        try:
            layout(model.s3_bucket_path, model.s3_path_format, model.file_name_pattern)
        except LayoutError as error:
            raise ConfigurationError(str(error)) from None
    return dict(model.model_dump(mode="json", exclude_unset=True, by_alias=True))


def _check(definition: Definition, configuration: dict[str, Any]) -> None:
    try:
        specification = definition.specification
    except NotInstalled as error:
        raise ConfigurationError(str(error)) from None
    clauses = []
    for fault in jsonschema.Draft7Validator(specification).iter_errors(configuration):
        where = ".".join(str(part) for part in fault.absolute_path) or "configuration"
        # Never the value: it may be a secret. The library's own messages repeat it.
        clauses.append(f"{where}: {_expectation(fault)}")
    clauses += _unsafe_secrets(configuration, definition.secret_names)
    if clauses:
        raise ConfigurationError("; ".join(clauses))


def _expectation(error: jsonschema.ValidationError) -> str:
    match error.validator:
        case "required":
            instance = error.instance if isinstance(error.instance, dict) else {}
            missing = [name for name in error.validator_value if name not in instance]
            return f"needs {', '.join(missing)}"
        case "oneOf" | "anyOf":
            return "fits none of the alternatives of the specification"
        case "additionalProperties":
            return "has keys that the specification does not know"
    return f"must fit {error.validator} {error.validator_value!r}"


def _unsafe_secrets(value: Any, names: frozenset[str], path: str = "", name: str = "") -> list[str]:
    if isinstance(value, dict):
        return [
            found
            for key, item in value.items()
            for found in _unsafe_secrets(item, names, f"{path}.{key}" if path else key, key)
        ]
    if isinstance(value, list):
        return [found for item in value for found in _unsafe_secrets(item, names, path)]
    if name not in names or not isinstance(value, str) or not value or value == MASK:
        return []
    if len(value) < SHORTEST_SECRET:
        why = f"must have at least {SHORTEST_SECRET} characters"
    elif any(value.lower() in word for word in messages.VOCABULARY):
        why = "must not be an ordinary word of the Airbyte protocol"
    else:
        return []
    return [f"{path}: a secret {why}, since the connector masks it in everything it prints"]


def shown(row: DictRow) -> dict[str, Any]:
    """A stored configuration as a reply shows it: secrets masked, and typed where clients can read the type back."""
    choice = of(row)
    masked = mask(row["configuration"], _secret_names(choice))
    typed = choice.typed if isinstance(choice, Definition) else choice is not None
    return {**masked, f"{row['kind']}Type": row["type"]} if typed else masked


def _secret_names(choice: Choice | None) -> frozenset[str] | None:
    """Names of the secret fields; None where nobody knows them: then every text is one."""
    if isinstance(choice, Definition):
        try:
            return choice.secret_names | SECRET_FIELDS
        except NotInstalled:
            return None
    return SECRET_FIELDS if choice is not None else None


def mask(value: Any, names: frozenset[str] | None = SECRET_FIELDS, name: str = "") -> Any:
    """A copy of a configuration with every secret replaced."""
    if isinstance(value, dict):
        return {key: mask(item, names, key) for key, item in value.items()}
    if isinstance(value, list):
        return [mask(item, names, name) for item in value]
    secret = name in names if names is not None else isinstance(value, str)
    return MASK if secret and value else value


def unmask(new: Any, old: Any) -> Any:
    """`new` with each masked value replaced by the one in `old`: clients send back what they read."""
    if isinstance(new, dict):
        known = old if isinstance(old, dict) else {}
        return {key: unmask(item, known.get(key)) for key, item in new.items()}
    return old if new == MASK and isinstance(old, str) else new


def secrets(row: DictRow) -> list[str]:
    """Every secret in a stored configuration, to scrub messages with."""
    return _collect(row["configuration"], _secret_names(of(row)), "")


def _collect(value: Any, names: frozenset[str] | None, name: str) -> list[str]:
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _collect(item, names, key)]
    if isinstance(value, list):
        return [found for item in value for found in _collect(item, names, name)]
    secret = isinstance(value, str) and bool(value) and (names is None or name in names)
    return [value] if secret else []
