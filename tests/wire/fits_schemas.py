"""Holds messages against docs/schema with a validator that is none of Tidegate's (jsonschema).

    python3 fits_schemas.py docs/schema < LINES

A line is {"schema": NAME, "message": …}. Each message must fit NAME.schema.json. So must the same with a member of a later
version, and with an unknown word in an enum's place. With a required member less, or with any member of another type, it
must not. Prints what was tried, as JSON; exits 1 with every contradiction.
"""

import copy
import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

# One value of each type of JSON.
VALUES = {"string": "x", "integer": 1, "number": 1.5, "boolean": True, "null": None, "array": [], "object": {}}

# A type that another one includes (JSON Schema validation, 6.1.1): a whole number is a number.
ALSO = {"number": {"integer"}}


class Schema:
    def __init__(self, file):
        self.whole = json.loads(file.read_text())
        Draft202012Validator.check_schema(self.whole)
        self.validator = Draft202012Validator(self.whole)

    def resolve(self, schema):
        """The schema behind references; of a choice, its parts."""
        if "$ref" in schema:
            return self.resolve(self.whole["$defs"][schema["$ref"].removeprefix("#/$defs/")])
        if "anyOf" in schema:
            return [part for choice in schema["anyOf"] for part in flat(self.resolve(choice))]
        return schema

    def types(self, schema):
        """The types that a value may have."""
        found = set()
        for part in flat(self.resolve(schema)):
            named = part.get("type", "string" if "enum" in part else [])
            found |= {named} if isinstance(named, str) else set(named)
        return found | {also for name in found for also in ALSO.get(name, ())}

    def is_open_enum(self, schema):
        return any("enum" in part for part in flat(self.resolve(schema)))

    def objects(self, schema, message, path=()):
        """Every object in a message with its schema and the way to it."""
        schema = next((part for part in flat(self.resolve(schema)) if "properties" in part), None)
        if schema is None or not isinstance(message, dict):
            return
        yield path, schema
        for name, part in schema["properties"].items():
            value = message.get(name)
            if isinstance(value, list) and value:
                yield from self.objects(part["items"], value[0], (*path, name, 0))
            else:
                yield from self.objects(part, value, (*path, name))


def flat(schemas):
    return schemas if isinstance(schemas, list) else [schemas]


def changed(message, path, change):
    """A copy in which `change` was done to the object at `path`."""
    message = copy.deepcopy(message)
    inner = message
    for step in path:
        inner = inner[step]
    change(inner)
    return message


def damaged(schema, message):
    for path, part in schema.objects(schema.whole, message):
        for name in part["required"]:
            yield f"without {path} {name}", changed(message, path, lambda inner: inner.pop(name))
        for name, member in part["properties"].items():
            for kind in VALUES.keys() - schema.types(member):
                # An object where one is wanted has members of its own, which are damaged in their turn.
                yield f"{path} {name} a {kind}", changed(message, path, lambda inner: inner.update({name: VALUES[kind]}))
            if member.get("minimum") == 0:
                yield f"{path} {name} below zero", changed(message, path, lambda inner: inner.update({name: -1}))


def later(schema, message):
    for path, part in schema.objects(schema.whole, message):
        yield f"with more in {path}", changed(message, path, lambda inner: inner.update({"of_a_later_version": [1]}))
        for name, member in part["properties"].items():
            if schema.is_open_enum(member):
                yield f"another word in {path} {name}", changed(message, path, lambda inner: inner.update({name: "new"}))


def main():
    folder = Path(sys.argv[1])
    schemas, wrong = {}, []
    tried = {"messages": 0, "damaged": 0, "later": 0}
    for line in map(json.loads, sys.stdin):
        name, message = line["schema"], line["message"]
        if name not in schemas:
            schemas[name] = Schema(folder / f"{name}.schema.json")
        schema = schemas[name]
        tried["messages"] += 1
        wrong += [f"{name}: {error.json_path}: {error.message}" for error in schema.validator.iter_errors(message)]
        for how, bad in damaged(schema, message):
            tried["damaged"] += 1
            if schema.validator.is_valid(bad):
                wrong.append(f"{name}: takes a message {how}")
        for how, good in later(schema, message):
            tried["later"] += 1
            wrong += [f"{name}: refuses one {how}: {error.message}" for error in schema.validator.iter_errors(good)]
    print(json.dumps(tried))
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
