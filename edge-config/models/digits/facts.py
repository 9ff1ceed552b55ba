"""Owns what is stated about a model: the facts in `model.json`, derived from the files themselves, and the limits.

`train.py` writes what `derive` answers, and `check.py` derives it again from the committed files and compares.
"""

import hashlib
import json

import numpy as np
import onnx

import evaluate
import graph
import network
import split
import views

MODEL_FILE = "digits.onnx"
HELD_OUT_FILE = "heldout.bin"
FACTS_FILE = "model.json"

# About 5 ms on one thread: enough that a replica has a throughput worth scaling, small enough for a quick demo.
LEAST_MFLOP = 300
# What the demo promises through the gateway.
LEAST_ACCURACY = 0.97
# The model is part of the program's source and of its binary.
MOST_BYTES = 250_000


def derive(model: bytes, records: bytes, parts: split.Split) -> dict:
    """Every fact that the files and the data set determine."""
    proto = onnx.load_from_string(model)
    return {
        "name": "digits",
        "input": {"name": "image", "datatype": "FP32", "shape": [-1, 1, split.SIDE, split.SIDE], "range": [0, 16]},
        "output": {"name": "logits", "datatype": "FP32", "shape": [-1, split.CLASSES]},
        "split": describe_split(parts),
        "accuracy": describe_accuracy(model, parts.held_out),
        "work": describe_work(proto),
        "structure": describe_structure(proto),
        "files": {MODEL_FILE: describe_file(model), HELD_OUT_FILE: describe_file(records)},
    }


def describe_split(parts: split.Split) -> dict:
    return {
        "data": "scikit-learn load_digits",
        "seed": split.SPLIT_SEED,
        "fit": len(parts.fit.label),
        "validation": len(parts.validation.label),
        "held_out": len(parts.held_out.label),
        "held_out_by_class": np.bincount(parts.held_out.label, minlength=split.CLASSES).tolist(),
    }


def describe_accuracy(model: bytes, held_out: split.Part) -> dict:
    """Held-out accuracy with the untouched image alone, and with all views averaged."""
    measured = evaluate.measure(evaluate.answers(model, held_out.image), held_out.label)
    return {
        "images": measured.images,
        "single_view_right": measured.single_right,
        "single_view": measured.single_right / measured.images,
        "single_view_loss": round(measured.single_loss, 5),
        "averaged_right": measured.averaged_right,
        "averaged": measured.averaged_right / measured.images,
        "averaged_loss": round(measured.averaged_loss, 5),
    }


def describe_work(proto: onnx.ModelProto) -> dict:
    """Two operations for each multiply-add of Conv, MatMul and Gemm, for one image."""
    flop = graph.count_flop(proto)
    return {
        "mflop_per_image": round(flop.total / 1e6, 1),
        "mflop_per_image_without_padding": round(flop.on_image / 1e6, 1),
    }


def describe_structure(proto: onnx.ModelProto) -> dict:
    return {
        "opset": proto.opset_import[0].version,
        "views": views.VIEWS,
        "convolutions": [{"kernel": side, "channels": channels} for side, channels in network.CONVOLUTIONS.values()],
        "trained_weights": graph.weight_count(proto),
        "operators": graph.operators(proto),
    }


def describe_file(data: bytes) -> dict:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def shortcomings(facts: dict) -> list[str]:
    """What makes a model unfit for the demo; empty when it is fit."""
    found = []
    # The stricter of the two counts, so that the figure holds whichever way it is counted.
    mflop = facts["work"]["mflop_per_image_without_padding"]
    if mflop < LEAST_MFLOP:
        found.append(f"{mflop} MFLOP an image, at least {LEAST_MFLOP} are needed: add views or channels")
    if facts["accuracy"]["averaged"] < LEAST_ACCURACY:
        found.append(f"held-out accuracy {facts['accuracy']['averaged']}, at least {LEAST_ACCURACY} is needed")
    size = facts["files"][MODEL_FILE]["bytes"]
    if size >= MOST_BYTES:
        found.append(f"{MODEL_FILE} has {size} bytes, under {MOST_BYTES} are needed: use fewer channels")
    return found


def to_json(facts: dict) -> str:
    """One line for each group of facts."""
    lines = (f"  {json.dumps(group)}: {json.dumps(value)}" for group, value in facts.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
