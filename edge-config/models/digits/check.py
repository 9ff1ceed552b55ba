#!/usr/bin/env python3
"""Checks a trained model's files against the data set and the code: split, structure, work, accuracy.

    python3 check.py [--dir DIR]        DIR is this folder by default

Nothing is taken from the files on trust: the split is derived again from scikit-learn's data, the graph is built again
and compared, its work is counted again, and the accuracy is measured again through onnxruntime. Prints a line for each
check; exits 1 when one fails and 2 when a file cannot be read.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import evaluate
import facts
import graph
import network
import split
import views

# Sums of 66 probabilities differ by rounding between batch sizes and engines, never by this much.
TOLERANCE = 1e-5
# Of a stated fraction: a tenth of what one image more or less changes in 500.
FRACTION_TOLERANCE = 2e-4


def main() -> int:
    folder = parse_arguments()
    try:
        model = (folder / facts.MODEL_FILE).read_bytes()
        records = (folder / facts.HELD_OUT_FILE).read_bytes()
        stated = json.loads((folder / facts.FACTS_FILE).read_text())
        proto = onnx.load_from_string(model)
    except Exception as error:  # Any of four file formats' errors; all mean the same to the reader.
        print(f"check: cannot read the model's files in {folder}: {error}; run train.py first", file=sys.stderr)
        return 2
    parts = split.load_split()
    failures = {
        "heldout.bin is the held-out part of the split": check_records(records, parts),
        "no held-out image is also a training image": check_disjoint(parts),
        "digits.onnx is the graph that graph.py builds": check_structure(proto),
    }
    # Measuring another graph than the expected one could fail anywhere, and would say nothing.
    if not any(failures.values()):
        answer = evaluate.answers(model, parts.held_out.image)
        derived = facts.derive(model, records, parts)
        failures |= {
            "every view differs, and the answer is the mean of all": check_views(parts.held_out, answer),
            "an image's answer is the same in any batch": check_batches(model, parts.held_out, answer),
            "model.json says what the files say": check_facts(stated, derived),
            "work, accuracy and size are fit for the demo": facts.shortcomings(derived),
        }
    return report(failures)


def parse_arguments() -> Path:
    parser = argparse.ArgumentParser(description="Check the demo's digit classifier.")
    parser.add_argument("--dir", type=Path, default=Path(__file__).parent, help="folder that holds the files")
    return parser.parse_args().dir


def check_records(records: bytes, parts: split.Split) -> list[str]:
    expected = split.encode_records(parts.held_out)
    if records == expected:
        return []
    if len(records) != len(expected):
        return [f"it has {len(records)} bytes, expected {len(expected)}"]
    size = split.RECORD_BYTES
    differing = [i for i in range(split.HELD_OUT) if records[i * size :][:size] != expected[i * size :][:size]]
    return [f"{len(differing)} records differ, the first is number {differing[0]}"]


def check_disjoint(parts: split.Split) -> list[str]:
    """By content, not by index: the same image twice in the data set would leak as well."""
    seen = {image.tobytes() for part in (parts.fit, parts.validation) for image in part.image}
    leaked = sum(image.tobytes() in seen for image in parts.held_out.image)
    return [f"{leaked} are"] if leaked else []


def check_structure(proto: onnx.ModelProto) -> list[str]:
    """Same nodes, inputs, outputs, constants and shapes of weights as a graph built from scratch."""
    expected = graph.build_model(network.initial_weights(np.random.RandomState(0)))
    found = []
    for what in ("node", "input", "output"):
        if list(getattr(proto.graph, what)) != list(getattr(expected.graph, what)):
            found.append(f"its {what}s differ")
    if proto.opset_import != expected.opset_import or proto.ir_version != expected.ir_version:
        found.append("its opset or format version differs")
    return found + check_initializers(read_initializers(proto), read_initializers(expected))


def check_initializers(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
    if actual.keys() != expected.keys():
        return [f"initialisers {sorted(actual.keys() ^ expected.keys())} are missing or too many"]
    constant = graph.constants()
    found = []
    for name, array in actual.items():
        if array.shape != expected[name].shape or array.dtype != expected[name].dtype:
            found.append(f"{name} is {array.dtype}{list(array.shape)}")
        elif name in constant and not np.array_equal(array, constant[name]):
            found.append(f"the constant {name} has other values")
    return found


def read_initializers(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def check_views(held_out: split.Part, answer: evaluate.Answers) -> list[str]:
    """The work is useful: no two views of an image are the same, and each has its share in the answer."""
    found = []
    horizontal = views.horizontal_weights(np.array(views.HORIZONTAL))
    vertical = views.vertical_weights(np.array(views.VERTICAL))
    image = held_out.image[0].astype(np.float32)
    made = {views.apply(h[None], v[None], image[None]).tobytes() for h in horizontal for v in vertical}
    if len(made) != views.VIEWS:
        found.append(f"{views.VIEWS} views of the first image give {len(made)} different ones")
    said = {answer.views[:, view].tobytes() for view in range(views.VIEWS)}
    if len(said) != views.VIEWS:
        found.append(f"{views.VIEWS} views give {len(said)} different answers")
    if not np.allclose(np.exp(answer.logits), answer.views.mean(axis=1), atol=TOLERANCE):
        found.append("the answer is not the mean of the views")
    return found


def check_batches(model: bytes, held_out: split.Part, answer: evaluate.Answers) -> list[str]:
    session = evaluate.open_session(model)
    found = []
    for count in (1, 3):
        (logits,) = session.run(None, {"image": evaluate.as_input(held_out.image[:count])})
        if not np.allclose(np.exp(logits), np.exp(answer.logits[:count]), atol=TOLERANCE):
            found.append(f"not with a batch of {count}")
    return found


def check_facts(stated: dict, derived: dict) -> list[str]:
    """Exact, counts of right answers too. What only the training run knew (`training`) cannot be derived."""
    groups = (stated.keys() | derived.keys()) - {"training"}
    return [
        f"{group}: it says {stated.get(group)}, found {derived.get(group)}"
        for group in sorted(groups)
        if not same_facts(stated.get(group), derived.get(group))
    ]


def same_facts(stated, derived) -> bool:
    """Equal, where fractions may differ by what another processor's rounding does to a mean loss."""
    if isinstance(stated, dict) and isinstance(derived, dict):
        return stated.keys() == derived.keys() and all(same_facts(stated[key], derived[key]) for key in derived)
    if isinstance(stated, float) and isinstance(derived, float):
        return abs(stated - derived) <= FRACTION_TOLERANCE
    return stated == derived


def report(failures: dict[str, list[str]]) -> int:
    for what, found in failures.items():
        print(f"{'FAIL' if found else 'ok  '}  {what}")
        for detail in found:
            print(f"        {detail}")
    return 1 if any(failures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
