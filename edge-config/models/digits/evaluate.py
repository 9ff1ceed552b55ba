"""Owns the measurement of a finished model, through onnxruntime: an engine that shares no code with the training."""

from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime

from graph import VIEW_PROBABILITIES
from network import cross_entropy
from split import CLASSES
from views import IDENTITY_VIEW, VIEWS

# Images in one run: 66 views of 50 images keep the largest tensor at 40 MB.
BATCH = 50


class Answers(NamedTuple):
    """What the model says of n images: `logits` [n,10], and `views` [n,66,10], each view's own probabilities."""

    logits: np.ndarray
    views: np.ndarray


class Accuracy(NamedTuple):
    """Right answers, and the mean loss in nats, of the untouched image alone and of all views averaged."""

    images: int
    single_right: int
    single_loss: float
    averaged_right: int
    averaged_loss: float


def answers(model: bytes, image: np.ndarray) -> Answers:
    """Runs the model on images uint8 [n,8,8], and reads the views' probabilities on the way."""
    session = open_session(with_view_output(model))
    runs = [session.run(None, {"image": as_input(part)}) for part in batches(image)]
    logits, views = (np.concatenate(parts) for parts in zip(*runs))
    return Answers(logits, views.reshape(-1, VIEWS, CLASSES))


def measure(answer: Answers, label: np.ndarray) -> Accuracy:
    """Compares the answers with the labels."""
    single, averaged = answer.views[:, IDENTITY_VIEW], np.exp(answer.logits)
    return Accuracy(
        images=len(label),
        single_right=count_right(single, label),
        single_loss=cross_entropy(single, label),
        averaged_right=count_right(averaged, label),
        averaged_loss=cross_entropy(averaged, label),
    )


def count_right(probability: np.ndarray, label: np.ndarray) -> int:
    return int((probability.argmax(axis=1) == label).sum())


def with_view_output(model: bytes) -> bytes:
    """The same graph with the probabilities of the views as a second output."""
    proto = onnx.load_from_string(model)
    proto.graph.output.append(onnx.helper.make_tensor_value_info(VIEW_PROBABILITIES, onnx.TensorProto.FLOAT, None))
    return proto.SerializeToString()


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """One thread, so that sums are taken in the same order each time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def as_input(image: np.ndarray) -> np.ndarray:
    """The model's input of images uint8 [n,8,8]: FP32 [n,1,8,8], still in 0..16."""
    return image[:, None].astype(np.float32)


def batches(image: np.ndarray) -> list[np.ndarray]:
    return [image[start : start + BATCH] for start in range(0, len(image), BATCH)]
