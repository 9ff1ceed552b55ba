#!/usr/bin/env python3
"""Trains the demo's digit classifier and writes `digits.onnx`, `heldout.bin` and `model.json`.

    python3 train.py [--out DIR]        about a minute on one core; DIR is this folder by default

Split and seeds were fixed before any training. The held-out images are read once, after training, for the figures; no
setting was chosen by them, and early stopping sees a part of the training images only. Exits 1 when the result is not
fit for the demo: under 300 MFLOP an image, 250,000 bytes or more, or under 0.97 right on the held-out images.
"""

import os

# Before numpy is loaded: the matrices are small, and one thread adds in the same order each time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import facts
import graph
import network
import split
import views

TRAINING_SEED = 8
BATCH = 64
RATE = 2e-3
WEIGHT_DECAY = 1e-2
# When the validation loss has not improved for so many epochs, the rate falls by the factor; the third time, training
# ends. Eight epochs, because the loss of 197 images is noisy.
PATIENCE = 8
RATE_DROP = 0.3
DROPS = 3
# A bound on the time, not a choice: training ends by itself well before.
MAX_EPOCHS = 120


def main() -> int:
    out = parse_arguments()
    out.mkdir(parents=True, exist_ok=True)
    parts = split.load_split()
    weights, stopping = train(parts.fit, parts.validation)
    model = graph.build_model(weights).SerializeToString()
    records = split.encode_records(parts.held_out)
    derived = facts.derive(model, records, parts) | {"training": describe_training(stopping)}
    (out / facts.MODEL_FILE).write_bytes(model)
    (out / facts.HELD_OUT_FILE).write_bytes(records)
    (out / facts.FACTS_FILE).write_text(facts.to_json(derived))
    print(facts.to_json(derived), end="")
    return report(facts.shortcomings(derived))


def parse_arguments() -> Path:
    parser = argparse.ArgumentParser(description="Train the demo's digit classifier.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    return parser.parse_args().out


class EarlyStopping:
    """Keeps the weights with the lowest validation loss, and says when to lower the rate and when to end."""

    def __init__(self):
        self.best: network.Weights = {}
        self.best_loss = np.inf
        self.best_epoch = 0
        self.epoch = 0
        self.waited = 0
        self.drops = 0

    def rate(self) -> float:
        return RATE * RATE_DROP**self.drops

    def ended(self) -> bool:
        return self.drops == DROPS or self.epoch == MAX_EPOCHS

    def observe(self, weights: network.Weights, loss: float) -> None:
        """Takes the loss after one more epoch."""
        self.epoch += 1
        self.waited += 1
        if loss < self.best_loss:
            self.best = {name: w.copy() for name, w in weights.items()}
            self.best_loss, self.best_epoch, self.waited = loss, self.epoch, 0
        elif self.waited == PATIENCE:
            self.drops, self.waited = self.drops + 1, 0


def train(fit: split.Part, validation: split.Part) -> tuple[network.Weights, EarlyStopping]:
    """Weights of the epoch with the lowest validation loss, and how training came to its end."""
    random = np.random.RandomState(TRAINING_SEED)
    weights = network.initial_weights(random)
    adam = network.Adam(weights, WEIGHT_DECAY)
    stopping = EarlyStopping()
    while not stopping.ended():
        started = time.monotonic()
        fit_loss = train_epoch(random, weights, adam, fit, stopping.rate())
        loss, accuracy = validate(weights, validation)
        stopping.observe(weights, loss)
        print(
            f"epoch {stopping.epoch:3}  fit loss {fit_loss:.4f}  validation loss {loss:.4f} accuracy {accuracy:.4f}"
            f"  {time.monotonic() - started:.1f} s",
            flush=True,
        )
    return stopping.best, stopping


def train_epoch(random, weights: network.Weights, adam: network.Adam, fit: split.Part, rate: float) -> float:
    """One pass over the images, each seen as one random view; answers the mean loss."""
    order = random.permutation(len(fit.label))
    losses = []
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        image, label = views.augment(random, scaled(fit.image[chosen])), fit.label[chosen]
        scores, tape = network.train_forward(weights, image, random)
        probability = network.softmax(scores)
        losses.append(network.cross_entropy(probability, label))
        adam.step(weights, network.backward(weights, tape, loss_gradient(probability, label)), rate)
    return float(np.mean(losses))


def loss_gradient(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Gradient of the mean cross entropy by the scores."""
    gradient = probability.copy()
    gradient[np.arange(len(label)), label] -= 1
    return (gradient / len(label)).astype(np.float32)


def validate(weights: network.Weights, part: split.Part) -> tuple[float, float]:
    """Loss and accuracy on the untouched images."""
    probability = network.softmax(network.forward(weights, scaled(part.image))[0])
    right = float((probability.argmax(axis=1) == part.label).mean())
    return network.cross_entropy(probability, part.label), right


def scaled(image: np.ndarray) -> np.ndarray:
    """Pixels 0..16 to 0..1, as the graph does it."""
    return image.astype(np.float32) / split.MAX_PIXEL


def describe_training(stopping: EarlyStopping) -> dict:
    """The part of the facts that only a training run knows."""
    return {
        "seed": TRAINING_SEED,
        "epochs": stopping.epoch,
        "best_epoch": stopping.best_epoch,
        "best_validation_loss": round(stopping.best_loss, 4),
    }


def report(shortcomings: list[str]) -> int:
    for shortcoming in shortcomings:
        print(f"train: {shortcoming}", file=sys.stderr)
    return 1 if shortcomings else 0


if __name__ == "__main__":
    sys.exit(main())
