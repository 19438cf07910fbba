"""Warm start against fresh initialisation on scikit-learn's digits (after Ash and Adams, NeurIPS 2020).

Three ways to start the training of a network on all of the training data:
    fresh    newly drawn weights
    warm     the weights that a long training on the first half of the data left
    perturb  the warm weights, shrunk and perturbed: the remedy that the paper proposes
All three reach 100 % training accuracy; what differs is the accuracy on the test data.

Every repeat has its own split and its own networks. The repeats are trained side by side: axis 0 of every array
is the repeat, so one matmul serves them all. All that is random comes from one generator.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Data = tuple[Floats, Ints]  # inputs (repeat, sample, pixel) and labels (repeat, sample)

LAYERS = (64, 16, 16, 10)
ARMS = {"fresh": "fresh start", "warm": "warm start", "perturb": "warm start, shrunk and perturbed"}
COLOURS = {"fresh": "#0072b2", "warm": "#d55e00", "perturb": "#009e73"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    seed: int = 0
    repeats: int = 16
    train_samples: int = 400
    half_epochs: int = 1500  # on the first half of the data, far beyond 100 % training accuracy
    epochs: int = 100  # on all of it, the same for every arm
    batch: int = 16
    learning_rate: float = 0.01
    shrink: float = 0.6  # the paper's lambda
    noise: float = 0.01  # the paper's sigma


def parse_arguments() -> Settings:
    parser = argparse.ArgumentParser(description="Warm start against fresh initialisation, on digits.")
    for name, default in asdict(Settings()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default, help=f"default: {default}")
    return Settings(**vars(parser.parse_args()))


def load_splits(settings: Settings, rng: np.random.Generator) -> tuple[Data, Data]:
    """Every repeat draws its own training samples; all the others are its test samples."""
    pixels, labels = load_digits(return_X_y=True)
    inputs = (pixels / 16).astype(np.float32)
    order = rng.permuted(np.tile(np.arange(len(labels)), (settings.repeats, 1)), axis=1)
    train, test = order[:, : settings.train_samples], order[:, settings.train_samples :]
    return (inputs[train], labels[train]), (inputs[test], labels[test])


def initial(repeats: int, rng: np.random.Generator) -> Floats:
    """One row of parameters per repeat: weights after He et al., then biases of zero, layer by layer."""
    parts = []
    for fan_in, fan_out in zip(LAYERS, LAYERS[1:]):
        parts.append(rng.standard_normal((repeats, fan_in * fan_out), dtype=np.float32) * np.float32((2 / fan_in) ** 0.5))
        parts.append(np.zeros((repeats, fan_out), dtype=np.float32))
    return np.concatenate(parts, axis=1)


def unpack(parameters: Floats) -> list[tuple[Floats, Floats]]:
    """Views of the parameter rows: per layer the weights (repeat, in, out) and the biases (repeat, 1, out)."""
    layers, start = [], 0
    for fan_in, fan_out in zip(LAYERS, LAYERS[1:]):
        middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
        layers.append((parameters[:, start:middle].reshape(-1, fan_in, fan_out), parameters[:, None, middle:end]))
        start = end
    return layers


def forward(layers: list[tuple[Floats, Floats]], inputs: Floats) -> list[Floats]:
    """The activations of every layer, from the inputs to the logits; hidden units are rectified."""
    activations = [inputs]
    for weights, biases in layers:
        if len(activations) > 1:
            np.maximum(activations[-1], 0, out=activations[-1])
        activations.append(activations[-1] @ weights + biases)
    return activations


def accuracy(parameters: Floats, data: Data) -> NDArray[np.float64]:
    inputs, labels = data
    return (forward(unpack(parameters), inputs)[-1].argmax(axis=2) == labels).mean(axis=1)


def train(start: Floats, data: Data, epochs: int, settings: Settings, rng: np.random.Generator, test: Data | None = None
          ) -> tuple[Floats, NDArray[np.float64]]:
    """Adam on the cross-entropy. Returns the parameters and, given test data, its accuracy (epoch, repeat)."""
    parameters, gradient = start.copy(), np.zeros_like(start)
    layers, gradients = unpack(parameters), unpack(gradient)  # views: what is written into one is seen in the other
    first, second = np.zeros_like(start), np.zeros_like(start)
    inputs, labels = data
    targets = np.eye(LAYERS[-1], dtype=np.float32)[labels]
    rows = np.arange(len(labels))[:, None]
    samples = np.tile(np.arange(labels.shape[1]), (len(labels), 1))
    curve, step = [], 0
    for _ in range(epochs):
        order = rng.permuted(samples, axis=1)
        shuffled, wanted = inputs[rows, order], targets[rows, order]
        for at in range(0, order.shape[1], settings.batch):
            activations = forward(layers, shuffled[:, at : at + settings.batch])
            logits = activations.pop()
            odds = np.exp(logits - logits.max(axis=2, keepdims=True))
            delta = odds / odds.sum(axis=2, keepdims=True) - wanted[:, at : at + settings.batch]
            delta /= delta.shape[1]
            for (weights, _), (to_weights, to_biases) in zip(reversed(layers), reversed(gradients)):
                below = activations.pop()
                np.matmul(below.swapaxes(1, 2), delta, out=to_weights)
                delta.sum(axis=1, keepdims=True, out=to_biases)
                if activations:  # the inputs need no gradient
                    delta = (delta @ weights.swapaxes(1, 2)) * (below > 0)
            step += 1
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient * gradient - second)
            rate = settings.learning_rate * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
            parameters -= rate * first / (np.sqrt(second) + 1e-8)
        if test is not None:
            curve.append(accuracy(parameters, test))
    return parameters, np.array(curve)


def main() -> None:
    began = time.perf_counter()
    settings = parse_arguments()
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed))
    data, test = load_splits(settings, rng)
    half = settings.train_samples // 2
    first_half = (data[0][:, :half], data[1][:, :half])
    warm, _ = train(initial(settings.repeats, rng), first_half, settings.half_epochs, settings, rng)
    noise = rng.standard_normal(warm.shape, dtype=np.float32)
    starts = {
        "fresh": initial(settings.repeats, rng),
        "warm": warm,
        "perturb": settings.shrink * warm + settings.noise * noise,
    }
    trained = {arm: train(starts[arm], data, settings.epochs, settings, rng, test) for arm in ARMS}
    print("train",{a: accuracy(p,data).mean() for a,(p,c) in trained.items()}, "half only", accuracy(warm,test).mean(), accuracy(warm,first_half).mean())
    f=trained['fresh'][1][-1]
    for a,(p,c) in trained.items():
        d=f-c[-1]; print(a,c[-1].mean(), 100*d.mean(), 100*d.std(ddof=1)/len(d)**.5,(d>0).sum())
    print(time.perf_counter()-began)

main()
