"""Owns which image is used for what, and the format of the held-out file.

Everything here is fixed before any training: one seed, one method, three parts. The held-out part is for the
figures in `model.json` and for the demo's requests; no training decision reads it.
"""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

# The size of the data set itself, taken as the seed because it leaves nothing to choose.
SPLIT_SEED = 1797
HELD_OUT = 500
# Part of the training images that early stopping watches.
VALIDATION = 197

SIDE = 8
CLASSES = 10
MAX_PIXEL = 16
RECORD_BYTES = SIDE * SIDE + 1


class Part(NamedTuple):
    """Images of one part: `index` into the data set, `image` uint8 [n,8,8] in 0..16, `label` uint8 [n]."""

    index: np.ndarray
    image: np.ndarray
    label: np.ndarray


class Split(NamedTuple):
    """`fit` and `validation` together are the training images."""

    fit: Part
    validation: Part
    held_out: Part


def load_split() -> Split:
    """The fixed split of scikit-learn's bundled digits."""
    digits = load_digits()
    image = digits.images.astype(np.uint8)
    label = digits.target.astype(np.uint8)
    assert np.array_equal(image, digits.images) and image.max() == MAX_PIXEL, "pixels must be whole numbers in 0..16"

    # RandomState, because numpy promises that its stream never changes between releases.
    random = np.random.RandomState(SPLIT_SEED)
    train_index, held_out_index = take_stratified(random, np.arange(len(label)), label, HELD_OUT)
    fit_index, validation_index = take_stratified(random, train_index, label, VALIDATION)
    return Split(*(Part(i, image[i], label[i]) for i in (fit_index, validation_index, held_out_index)))


def take_stratified(random, index: np.ndarray, label: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes `count` of `index` with each class's share kept; answers (rest, taken), both shuffled.

    Shuffled, so that any first part of the held-out file is itself a fair sample.
    """
    quota = class_quotas(np.bincount(label[index], minlength=CLASSES), count)
    order = random.permutation(index)
    rank = np.empty(len(order), dtype=int)
    for digit in range(CLASSES):
        of_digit = label[order] == digit
        rank[of_digit] = np.arange(of_digit.sum())
    taken = rank < quota[label[order]]
    return order[~taken], order[taken]


def class_quotas(population: np.ndarray, count: int) -> np.ndarray:
    """Shares `count` out in proportion to `population`; the largest remainders get what rounding left."""
    exact = population * count / population.sum()
    quota = np.floor(exact).astype(int)
    by_remainder = np.argsort(quota - exact, kind="stable")
    quota[by_remainder[: count - quota.sum()]] += 1
    return quota


def encode_records(part: Part) -> bytes:
    """One record for each image: 64 bytes of pixels, row by row from the top left, then one byte of label."""
    rows = np.concatenate([part.image.reshape(-1, SIDE * SIDE), part.label[:, None]], axis=1)
    return rows.astype(np.uint8).tobytes()


def decode_records(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The reverse of `encode_records`: images uint8 [n,8,8] and labels uint8 [n]."""
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD_BYTES)
    return rows[:, :-1].reshape(-1, SIDE, SIDE), rows[:, -1]
