"""Owns the views: the slightly moved and bent copies of an image that the model classifies beside the original.

A view is a horizontal step (slant, width, shift: its own resampling matrix for each row) followed by a vertical one
(height, shift: one matrix for all columns). Two steps, because the tables of the 66 views then take 24 KB where a
64 by 64 matrix for each would take 1.1 MB. Linear resampling; what lies outside the image is background, 0.
"""

import itertools
from typing import NamedTuple

import numpy as np

from split import SIDE

MIDDLE = (SIDE - 1) / 2


class Horizontal(NamedTuple):
    """`slant` in columns that a row moves for each row above the middle, `width` as a factor, `shift` in pixels."""

    slant: float
    width: float
    shift: float


class Vertical(NamedTuple):
    """`height` as a factor, `shift` in pixels."""

    height: float
    shift: float


# Small steps: in a cross-validation inside the training images, views three to four times as far apart voted for the
# wrong digit more often than the untouched image did, and views like these no more often. All pairs of slant and
# shift, then two widths.
SLANTS = (-0.05, 0.0, 0.05)
SHIFTS = (-0.125, 0.0, 0.125)
HORIZONTAL = tuple(Horizontal(slant, 1.0, shift) for slant, shift in itertools.product(SLANTS, SHIFTS)) + (
    Horizontal(0.0, 0.97, 0.0),
    Horizontal(0.0, 1.03, 0.0),
)
# The digits fill all eight rows, so there is more room to shrink than to enlarge.
VERTICAL = tuple(Vertical(1.0, shift) for shift in SHIFTS) + (
    Vertical(0.94, 0.0),
    Vertical(0.97, 0.0),
    Vertical(1.03, 0.0),
)
VIEWS = len(HORIZONTAL) * len(VERTICAL)
# The view that leaves the image as it is; views are numbered horizontal first.
IDENTITY_VIEW = HORIZONTAL.index((0.0, 1.0, 0.0)) * len(VERTICAL) + VERTICAL.index((1.0, 0.0))

# Training draws from a range four times as wide as the views span: strong distortions teach, mild ones vote.
TRAINING_RANGE = 4


def linear_weights(source: np.ndarray) -> np.ndarray:
    """Weights [..., 8] of the eight input pixels for output pixels that lie at `source` in input coordinates."""
    return np.maximum(0.0, 1.0 - np.abs(source[..., None] - np.arange(SIDE))).astype(np.float32)


def horizontal_weights(steps: np.ndarray) -> np.ndarray:
    """[n, row, output column, input column] for n rows of `Horizontal`."""
    slant, width, shift = steps.T[:, :, None, None]
    row, column = np.meshgrid(np.arange(SIDE) - MIDDLE, np.arange(SIDE) - MIDDLE, indexing="ij")
    return linear_weights(MIDDLE + (column + slant * row - shift) / width)


def vertical_weights(steps: np.ndarray) -> np.ndarray:
    """[n, output row, input row] for n rows of `Vertical`."""
    height, shift = steps.T[:, :, None]
    return linear_weights(MIDDLE + (np.arange(SIDE) - MIDDLE - shift) / height)


def horizontal_table() -> np.ndarray:
    """[row, input column, 11 * output column]: what the graph multiplies each row by."""
    weights = horizontal_weights(np.array(HORIZONTAL))
    return np.ascontiguousarray(weights.transpose(1, 3, 0, 2)).reshape(SIDE, SIDE, -1)


def vertical_table() -> np.ndarray:
    """[6 * output row, input row]: what the graph multiplies each column by."""
    return vertical_weights(np.array(VERTICAL)).reshape(-1, SIDE)


def apply(horizontal: np.ndarray, vertical: np.ndarray, image: np.ndarray) -> np.ndarray:
    """One view of each image [n,8,8], by the weights of one horizontal and one vertical step for each."""
    leaned = np.einsum("nroi,nri->nro", horizontal, image)
    return np.matmul(vertical, leaned)


def augment(random: np.random.RandomState, image: np.ndarray) -> np.ndarray:
    """One random view of each image [n,8,8], from the same family as the graph's views but not from its grid."""
    horizontal = horizontal_weights(draw(random, HORIZONTAL, len(image)))
    vertical = vertical_weights(draw(random, VERTICAL, len(image)))
    return apply(horizontal, vertical, image)


def draw(random: np.random.RandomState, steps: tuple, count: int) -> np.ndarray:
    """`count` rows, each number drawn evenly from the range that `steps` span, widened for training."""
    low, high = np.min(steps, axis=0), np.max(steps, axis=0)
    widen = (high - low) * (TRAINING_RANGE - 1) / 2
    return random.uniform(low - widen, high + widen, (count, len(low)))
