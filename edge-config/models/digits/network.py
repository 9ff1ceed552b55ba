"""Owns the convolutional network and its training arithmetic, in numpy alone.

Convolutions with ReLU (5x5, 3x3, and two that mix channels only), a 2x2 maximum, one linear layer. Images are
[n, row, column, channel] here (channels last keeps the matrix products contiguous); `graph.py` turns the weights round
for ONNX.
"""

from typing import NamedTuple

import numpy as np

from split import CLASSES, SIDE


class Convolution(NamedTuple):
    """`side` of the square kernel, and channels out."""

    side: int
    channels: int


# Wide where it is cheap: engines copy each pixel's neighbourhood once for every input channel, so few channels into the
# 3x3 and many out of it, then 1x1 kernels, ran a quarter faster for the same work than two 3x3 kernels of 48 channels.
# Multiples of 8, the register tiles of matrix kernels.
CONVOLUTIONS = {
    "conv1": Convolution(5, 24),
    "conv2": Convolution(3, 96),
    "conv3": Convolution(1, 128),
    "conv4": Convolution(1, 48),
}
POOLED = SIDE // 2
LAST_CHANNELS = CONVOLUTIONS["conv4"].channels
FEATURES = POOLED * POOLED * LAST_CHANNELS
# Share of the linear layer's inputs dropped in training; 1,100 images are few for 48,000 weights.
DROPOUT = 0.4

Weights = dict[str, np.ndarray]


def initial_weights(random: np.random.RandomState) -> Weights:
    """He initialisation. A convolution's `w` is [taps * channels in, channels out], the linear layer's
    [features, 10].
    """
    weights: Weights = {}
    inputs = 1
    for name, (side, channels) in CONVOLUTIONS.items():
        fan_in = side * side * inputs
        weights[name + ".w"] = gaussian(random, (fan_in, channels), np.sqrt(2 / fan_in))
        weights[name + ".b"] = np.zeros(channels, dtype=np.float32)
        inputs = channels
    weights["linear.w"] = gaussian(random, (FEATURES, CLASSES), np.sqrt(1 / FEATURES))
    weights["linear.b"] = np.zeros(CLASSES, dtype=np.float32)
    return weights


def gaussian(random: np.random.RandomState, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    return (random.standard_normal(shape) * deviation).astype(np.float32)


def patches(x: np.ndarray, side: int) -> np.ndarray:
    """[n,8,8,c] to [n*64, side*side*c]: the zero-padded neighbourhood of every pixel."""
    n, _, _, channels = x.shape
    reach = side // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    out = np.empty((n, SIDE, SIDE, side * side, channels), dtype=np.float32)
    for tap, (dy, dx) in enumerate(np.ndindex(side, side)):
        out[:, :, :, tap] = padded[:, dy : dy + SIDE, dx : dx + SIDE]
    return out.reshape(n * SIDE * SIDE, -1)


def patches_gradient(gradient: np.ndarray, side: int) -> np.ndarray:
    """The reverse of `patches`: adds each tap's gradient to the pixel that it was read from."""
    taps = gradient.reshape(len(gradient) // SIDE**2, SIDE, SIDE, side * side, -1)
    reach = side // 2
    padded = np.zeros((len(taps), SIDE + 2 * reach, SIDE + 2 * reach, taps.shape[-1]), dtype=np.float32)
    for tap, (dy, dx) in enumerate(np.ndindex(side, side)):
        padded[:, dy : dy + SIDE, dx : dx + SIDE] += taps[:, :, :, tap]
    return padded[:, reach : reach + SIDE, reach : reach + SIDE]


def blocks(x: np.ndarray) -> np.ndarray:
    """[n,8,8,c] to [n,4,4,4,c]: the four pixels of each 2x2 block on axis 3."""
    n, _, _, channels = x.shape
    split = x.reshape(n, POOLED, 2, POOLED, 2, channels)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(n, POOLED, POOLED, 4, channels)


def unblocks(b: np.ndarray) -> np.ndarray:
    """The reverse of `blocks`."""
    n, _, _, _, channels = b.shape
    split = b.reshape(n, POOLED, POOLED, 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(n, SIDE, SIDE, channels)


def forward(weights: Weights, image: np.ndarray) -> tuple[np.ndarray, list]:
    """Scores [n,10] of images [n,8,8] scaled to 0..1, and what `backward` needs."""
    x = image[..., None].astype(np.float32)
    tape = []
    for name, (side, channels) in CONVOLUTIONS.items():
        columns = patches(x, side)
        x = np.maximum(columns @ weights[name + ".w"] + weights[name + ".b"], 0)
        x = x.reshape(len(image), SIDE, SIDE, channels)
        tape.append((columns, x > 0))
    block = blocks(x)
    winner = block.argmax(axis=3)[:, :, :, None]
    features = np.take_along_axis(block, winner, axis=3).reshape(len(image), FEATURES)
    tape.append((winner, features))
    return features @ weights["linear.w"] + weights["linear.b"], tape


def train_forward(weights: Weights, image: np.ndarray, random: np.random.RandomState) -> tuple[np.ndarray, list]:
    """`forward` with dropout before the linear layer."""
    _, tape = forward(weights, image)
    winner, features = tape.pop()
    keep = (random.uniform(size=features.shape) >= DROPOUT).astype(np.float32) / np.float32(1 - DROPOUT)
    features = features * keep
    tape.append((winner, features, keep))
    return features @ weights["linear.w"] + weights["linear.b"], tape


def backward(weights: Weights, tape: list, score_gradient: np.ndarray) -> Weights:
    """Gradient of every weight, given the loss's gradient [n,10] by the scores of `train_forward`."""
    winner, features, keep = tape[-1]
    gradient = {"linear.w": features.T @ score_gradient, "linear.b": score_gradient.sum(axis=0)}
    pooled = (score_gradient @ weights["linear.w"].T * keep).reshape(-1, POOLED, POOLED, 1, LAST_CHANNELS)
    block = np.zeros((len(pooled), POOLED, POOLED, 4, LAST_CHANNELS), dtype=np.float32)
    np.put_along_axis(block, winner, pooled, axis=3)
    flow = unblocks(block)
    for name, (columns, active) in reversed(list(zip(CONVOLUTIONS, tape))):
        flow = (flow * active).reshape(-1, CONVOLUTIONS[name].channels)
        gradient[name + ".w"] = columns.T @ flow
        gradient[name + ".b"] = flow.sum(axis=0)
        if name != "conv1":
            flow = patches_gradient(flow @ weights[name + ".w"].T, CONVOLUTIONS[name].side)
    return gradient


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities [n,10] of scores [n,10]."""
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)


def cross_entropy(probability: np.ndarray, label: np.ndarray) -> float:
    """Mean loss in nats."""
    return float(-np.log(probability[np.arange(len(label)), label] + 1e-12).mean())


class Adam:
    """Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    def __init__(self, weights: Weights, decay: float):
        self.decay = decay
        self.step_count = 0
        self.mean = {name: np.zeros_like(w) for name, w in weights.items()}
        self.square = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, weights: Weights, gradient: Weights, rate: float) -> None:
        """Moves `weights` in place against `gradient`."""
        self.step_count += 1
        correction = np.sqrt(1 - 0.999**self.step_count) / (1 - 0.9**self.step_count)
        for name, g in gradient.items():
            self.mean[name] = 0.9 * self.mean[name] + np.float32(0.1) * g
            self.square[name] = 0.999 * self.square[name] + np.float32(0.001) * g * g
            move = correction * self.mean[name] / (np.sqrt(self.square[name]) + 1e-8)
            shrink = self.decay * weights[name] if name.endswith(".w") else 0
            weights[name] -= (rate * (move + shrink)).astype(np.float32)
