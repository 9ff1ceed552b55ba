"""Holds messages against docs/exec-adapter.schema.json: those of a page, requests in a folder, and recorded calls.

usage: fits_schema.py SCHEMA PAGE REQUESTS CALLS. REQUESTS holds NAME.json, CALLS N.request and N.answer. Prints how many
recorded messages of each kind were held, as JSON, and exits 1 with every message that does not fit. The schema is closed for this: it takes no member that it does not
describe, so that nothing is sent that the page is silent about. That it can refuse is tried with each message too.
"""
import json
import re
import sys
from collections import Counter
from pathlib import Path

from jsonschema import Draft202012Validator


def closed(schema):
    """The schema with every object that lists its members taking no others."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict):
        inner.setdefault("additionalProperties", False)
    return inner


def validator(schema, definition):
    return Draft202012Validator({**schema, "$ref": f"#/$defs/{definition}"})


def definitions(message, verb):
    """Which parts of the schema a message must fit."""
    if "verb" in message:
        return [f"{verb}_request"]
    return ["error_answer"] if "error" in message else [f"{verb}_answer"]


def problems(schema, message, verb):
    for definition in definitions(message, verb):
        for error in validator(schema, definition).iter_errors(message):
            yield f"{verb}: {error.json_path}: {error.message}"
    for error in Draft202012Validator(schema).iter_errors(message):
        yield f"{verb}: fits no message: {error.message}"


def mutilated(message):
    """The message with one required member less, each in turn: none of these may fit."""
    for name in message:
        yield f"without {name}", {other: value for other, value in message.items() if other != name}
    yield "of another protocol", {**message, "protocol": 2}


def page_messages(page):
    blocks = re.findall(r"^```json\n(.*?)^```", Path(page).read_text(), re.MULTILINE | re.DOTALL)
    verb = None
    for block in blocks:
        message = json.loads(block)
        verb = message.get("verb", verb)
        yield verb, message


def requests(folder):
    for file in sorted(Path(folder).glob("*.json")):
        request = json.loads(file.read_text())
        yield request["verb"], request


def recorded_messages(folder):
    for file in sorted(Path(folder).glob("*.request")):
        request = json.loads(file.read_text())
        yield request["verb"], request
        yield request["verb"], json.loads(file.with_suffix(".answer").read_text())


def main():
    schema_file, page, examples, calls = sys.argv[1:]
    published = json.loads(Path(schema_file).read_text())
    Draft202012Validator.check_schema(published)
    schema, found, held = closed(published), [], Counter()
    recorded = list(recorded_messages(calls))
    held.update(definitions(message, verb)[0] for verb, message in recorded)
    for verb, message in [*page_messages(page), *requests(examples), *recorded]:
        found += problems(schema, message, verb)
        for how, wrong in mutilated(message):
            if not list(validator(schema, definitions(message, verb)[0]).iter_errors(wrong)):
                found.append(f"{verb}: the schema takes a message {how}")
    print(json.dumps(held))
    print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
