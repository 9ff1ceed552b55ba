"""Reads a fleet's CBOR tree as a stranger would: with paho, cbor2 and the text of docs/wire.cddl, and nothing of Tidegate's.

    python3 read_trees.py --port PORT --fleet FLEET --cddl docs/wire.cddl KIND...

Each payload is decoded, its integer keys and enum numbers are replaced by the names in the CDDL file, and the result must
be, to the last value, what the JSON tree says on the same topic. Says "subscribed" once it hears. Ends with 0 once that was so for every KIND (discovery,
instance, state, load, service, burst, event), with 1 at the first contradiction or after 60 seconds.
"""

import argparse
import json
import re
import sys
import threading
from collections import defaultdict
from pathlib import Path

import cbor2
import paho.mqtt.client as mqtt
from cryptography import x509

PATIENCE_S = 60
RULES = {
    "discovery": "announcement",
    "instance": "announcement",
    "state": "node-state",
    "load": "load-report",
    "service": "service-status",
    "burst": "burst-status",
    "event": "event",
    "command": "command",
}


SIGNED = {"discovery", "instance", "state", "burst", "command"}
ED_DSA, ALGORITHM, STAMP, X5CHAIN = -8, 1, -65537, 33


def opened(topic, message):
    """The payload of a COSE_Sign1 (RFC 9052), once its signature is that of the certificate that it brings."""
    protected, unprotected, payload, signature = cbor2.loads(message)
    header = cbor2.loads(protected)
    session, sequence = header[STAMP]
    if header[ALGORITHM] != ED_DSA or session < 1 or sequence < 1:
        raise Contradiction(f"{topic}: the protected header is {header}")
    chain = unprotected[X5CHAIN]
    certificate = x509.load_der_x509_certificate(chain if isinstance(chain, bytes) else chain[0])
    signed = cbor2.dumps(["Signature1", protected, topic.encode(), payload])
    certificate.public_key().verify(signature, signed)
    return payload


class Contradiction(Exception):
    """What was read is not what the schema or the other tree says."""


class Schema:
    """The maps (key to name and type) and enums (number to word) of a CDDL file, as far as wire.cddl uses CDDL."""

    def __init__(self, text):
        self.maps, self.enums = defaultdict(dict), defaultdict(dict)
        rule = None
        for line in text.splitlines():
            if start := re.match(r"([a-z-]+) = (\{|&\()", line):
                rule = start[1]
            elif field := re.match(r"\s+\??\s*(\d+): ([^;]+?),?\s*; (\S+)", line):
                self.maps[rule][int(field[1])] = (field[3], field[2].strip())
            elif word := re.match(r"\s+([a-z.]+): (\d+),", line):
                self.enums[rule][int(word[2])] = word[1]

    def named(self, type_, value):
        """`value`, which the schema says is of `type_`, with names for numbers."""
        if value is None:
            if "null" not in type_:
                raise Contradiction(f"null where the schema has {type_}")
            return None
        type_ = type_.removesuffix("/ null").strip()
        if element := re.fullmatch(r"\[\* ([a-z-]+)\]", type_):
            return [self.named(element[1], item) for item in value]
        if type_ in self.maps:
            return self.named_map(type_, value)
        if type_ in self.enums:
            return self.enums[type_][value]
        self.check_plain(type_, value)
        return value

    def named_map(self, rule, value):
        if not isinstance(value, dict):
            raise Contradiction(f"{rule} is {value!r}, not a map")
        unknown = [key for key in value if key not in self.maps[rule]]
        if unknown:
            raise Contradiction(f"{rule} has keys that the schema does not: {unknown}")
        fields = self.maps[rule]
        return {fields[key][0]: self.named(fields[key][1], item) for key, item in value.items()}

    @staticmethod
    def check_plain(type_, value):
        kinds = {"tstr": str, "uint": int, "uint .size 4": int, "float": float, "bool": bool}
        if type_ not in kinds:
            raise Contradiction(f"the schema has a type that this reader does not know: {type_}")
        if type(value) is not kinds[type_] or (type_.startswith("uint") and value < 0):
            raise Contradiction(f"{value!r} where the schema has {type_}")


def kind_of(below):
    parts = below.split("/")
    if parts[0] == "discovery":
        return "discovery" if len(parts) == 2 else "instance"
    return parts[2]


class Trees:
    """What came on both trees, and which kinds were found equal."""

    def __init__(self, schema, fleet, wanted):
        self.schema, self.missing = schema, set(wanted)
        self.cbor_root, self.json_root = f"tidegate/v1/{fleet}/", f"tidegate-json/v1/{fleet}/"
        self.said = {"cbor": defaultdict(list), "json": defaultdict(list)}
        self.read = defaultdict(int)
        self.done, self.problem = threading.Event(), None

    def take(self, topic, payload):
        try:
            # The fleet's trust is said once, at the start, and is a kind of its own: bytes that its root has signed.
            if payload and not topic.endswith("/fleet/trust"):
                self.compare(topic, payload)
        except Exception as error:  # Whatever a decoder may throw at a bad payload: the reader must say it, not hang.
            self.problem = f"{topic}: {type(error).__name__}: {error}"
        if self.problem or not self.missing:
            self.done.set()

    def compare(self, topic, payload):
        if topic.startswith(self.cbor_root):
            below, tree, other = topic.removeprefix(self.cbor_root), "cbor", "json"
            if kind_of(below) in SIGNED:
                payload = opened(topic, payload)
            value = self.schema.named(RULES[kind_of(below)], cbor2.loads(payload))
            self.read[kind_of(below)] += 1
        else:
            below, tree, other = topic.removeprefix(self.json_root), "json", "cbor"
            value = json.loads(payload)
        self.said[tree][below].append(value)
        if value in self.said[other][below]:
            self.missing.discard(kind_of(below))

    def closest(self):
        """The last of both trees for each topic of a missing kind, for the eye."""
        topics = {topic for said in self.said.values() for topic in said if kind_of(topic) in self.missing}
        return "\n".join(f"{t}\n  cbor {self.said['cbor'][t][-1:]}\n  json {self.said['json'][t][-1:]}" for t in topics)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fleet", required=True)
    parser.add_argument("--cddl", type=Path, required=True)
    # What a node asks others may be heard or not, and is no part of the readable tree.
    parser.add_argument("kinds", nargs="+", choices=[kind for kind in RULES if kind != "command"])
    arguments = parser.parse_args()
    trees = Trees(Schema(arguments.cddl.read_text()), arguments.fleet, arguments.kinds)

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe([(trees.cbor_root + "#", 1), (trees.json_root + "#", 1)])
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_message = lambda _client, _data, message: trees.take(message.topic, message.payload)
    client.connect("127.0.0.1", arguments.port)
    client.loop_start()
    trees.done.wait(PATIENCE_S)
    client.loop_stop()
    if trees.problem:
        print(trees.problem, file=sys.stderr)
        return 1
    if trees.missing:
        print(f"not read alike in both trees: {sorted(trees.missing)}\n{trees.closest()}", file=sys.stderr)
        return 1
    print(json.dumps(trees.read))
    return 0


if __name__ == "__main__":
    sys.exit(main())
