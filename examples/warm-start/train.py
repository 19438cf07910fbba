"""Warm start against fresh initialisation on scikit-learn's digits (after Ash and Adams, NeurIPS 2020).

Three ways to start the training of a network on all of the training data:
    fresh    newly drawn weights
    warm     the weights that a long training on the first half of the data left
    perturb  the warm weights, shrunk and perturbed: the remedy that the paper proposes
All three end with every training sample right; what differs is the accuracy on the test data.

Every repeat has its own split and its own networks. The repeats are trained side by side: axis 0 of every array
is the repeat, so one matmul serves them all. All that is random comes from one generator. What a CPU changes is the
matmul: OpenBLAS chooses its kernels by CPU. (numpy chooses its SIMD paths so, too.) `determinism: portable` pins both.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Curves = NDArray[np.float64]  # test accuracy (epoch, repeat)
Data = tuple[Floats, Ints]  # inputs (repeat, sample, pixel) and labels (repeat, sample)
Trained = tuple[Floats, Curves]

LAYERS = (64, 24, 24, 10)
ARMS = {"fresh": "fresh start", "warm": "warm start", "perturb": "shrink and perturb"}
COLOURS = {"fresh": "#0072b2", "warm": "#d55e00", "perturb": "#009e73"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    seed: int = 0
    repeats: int = 16
    train_samples: int = 400
    half_epochs: int = 1500  # on the first half of the data, far beyond 100 % training accuracy
    epochs: int = 100  # on all of it, the same for every arm
    batch: int = 16
    learning_rate: float = 0.003
    shrink: float = 0.6  # lambda in the paper
    noise: float = 0.01  # sigma in the paper


def parse_arguments() -> Settings:
    parser = argparse.ArgumentParser(description="Warm start against fresh initialisation, on digits.")
    for name, default in asdict(Settings()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default, help=f"({default})")
    settings = Settings(**vars(parser.parse_args()))
    if settings.repeats < 2:
        parser.error("--repeats must be at least 2: a standard error is reported")
    return settings


def load_splits(settings: Settings, rng: np.random.Generator) -> tuple[Data, Data]:
    """Every repeat draws its own training samples; all the others are its test samples."""
    pixels, labels = load_digits(return_X_y=True)
    inputs = (pixels / 8 - 1).astype(np.float32)
    order = rng.permuted(np.tile(np.arange(len(labels)), (settings.repeats, 1)), axis=1)
    train, test = order[:, : settings.train_samples], order[:, settings.train_samples :]
    return (inputs[train], labels[train]), (inputs[test], labels[test])


def initial(repeats: int, rng: np.random.Generator) -> Floats:
    """One row of parameters per repeat: weights after He et al., then biases of zero, layer by layer."""
    parts = []
    for fan_in, fan_out in pairwise(LAYERS):
        weights = rng.standard_normal((repeats, fan_in * fan_out), dtype=np.float32)
        parts += [(2 / fan_in) ** 0.5 * weights, np.zeros((repeats, fan_out), dtype=np.float32)]
    return np.concatenate(parts, axis=1)


def unpack(parameters: Floats) -> list[tuple[Floats, Floats]]:
    """Views of the parameter rows: per layer the weights (repeat, in, out) and the biases (repeat, 1, out)."""
    layers, start = [], 0
    for fan_in, fan_out in pairwise(LAYERS):
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


def accuracy(parameters: Floats, data: Data) -> Curves:
    inputs, labels = data
    correct = forward(unpack(parameters), inputs)[-1].argmax(axis=2) == labels
    share: Curves = correct.mean(axis=1)
    return share


def train(start: Floats, data: Data, epochs: int, settings: Settings, rng: np.random.Generator,
          test: Data | None = None) -> Trained:
    """Adam on the cross-entropy. Returns the parameters and the test accuracy from epoch 0 on, as (epoch, repeat)."""
    parameters, gradient = start.copy(), np.zeros_like(start)
    layers, gradients = unpack(parameters), unpack(gradient)  # views: what is written into one is seen in the other
    first, second = np.zeros_like(start), np.zeros_like(start)
    inputs, labels = data
    targets = np.eye(LAYERS[-1], dtype=np.float32)[labels]
    rows = np.arange(len(labels))[:, None]
    samples = np.tile(np.arange(labels.shape[1]), (len(labels), 1))
    curve, step = [] if test is None else [accuracy(parameters, test)], 0
    for _ in range(epochs):
        order = rng.permuted(samples, axis=1)
        shuffled, wanted = inputs[rows, order], targets[rows, order]
        for at in range(0, order.shape[1], settings.batch):
            activations = forward(layers, shuffled[:, at : at + settings.batch])
            logits = activations.pop()
            odds = np.exp(logits - logits.max(axis=2, keepdims=True))
            delta = odds / odds.sum(axis=2, keepdims=True) - wanted[:, at : at + settings.batch]
            delta /= delta.shape[1]
            for (weights, _), (to_weights, to_biases) in zip(reversed(layers), reversed(gradients), strict=True):
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


def summarise(trained: dict[str, Trained], data: Data) -> dict[str, Any]:
    """The numbers to report. A gap is paired: fresh minus this arm on the same split, in percentage points."""
    arms = {}
    for arm, (parameters, curve) in trained.items():
        gap = 100 * (trained["fresh"][1][-1] - curve[-1])
        arms[arm] = {
            "curve": curve.mean(axis=1).round(6).tolist(),
            "gap_mean": round(float(gap.mean()), 4),
            "gap_of_each_repeat": gap.round(4).tolist(),
            "gap_standard_error": round(float(gap.std(ddof=1) / len(gap) ** 0.5), 4),
            "test_accuracy": round(float(curve[-1].mean()), 6),
            "train_accuracy": round(float(accuracy(parameters, data).mean()), 6),
        }
    return arms


def plot(trained: dict[str, Trained], path: Path) -> None:
    """Left the learning curves, right the paired gap of every repeat. The bytes depend on the data alone."""
    matplotlib.rcdefaults()  # no matplotlibrc of the machine
    matplotlib.rcParams["svg.hashsalt"] = "warm-start"  # ids in the file are hashes, not uuids
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    repeats = trained["fresh"][1].shape[1]
    for arm, (_, curve) in trained.items():
        mean, error = 100 * curve.mean(axis=1), 100 * curve.std(axis=1, ddof=1) / repeats**0.5
        left.plot(mean, color=COLOURS[arm], label=ARMS[arm])
        left.fill_between(np.arange(len(mean)), mean - error, mean + error, color=COLOURS[arm], alpha=0.2, linewidth=0)
    left.set(xlabel="epoch on all training data", ylabel="test accuracy (%)", xlim=(0, len(mean) - 1), ylim=(90, 96))
    left.set_title(f"mean ± standard error, {repeats} repeats", fontsize=10)
    left.legend(loc="lower right", frameon=False)
    others = [arm for arm in ARMS if arm != "fresh"]
    for at, arm in enumerate(others):
        gap = 100 * (trained["fresh"][1][-1] - trained[arm][1][-1])
        right.scatter(at + np.linspace(-0.25, 0.25, repeats), gap, s=14, color=COLOURS[arm], alpha=0.6, linewidths=0)
        right.errorbar(at, gap.mean(), yerr=gap.std(ddof=1) / repeats**0.5, fmt="D", color="black", capsize=4)
    right.axhline(0, color="grey", linewidth=0.8)
    right.set_xticks(range(len(others)), [ARMS[arm].replace(" and ", "\nand ") for arm in others])
    right.set(xlim=(-0.6, len(others) - 0.4), ylabel="fresh start is better by (points)")
    right.set_title("paired gap at the end", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    began = time.perf_counter()
    settings = parse_arguments()
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed))
    data, test = load_splits(settings, rng)
    half = settings.train_samples // 2
    first_half = (data[0][:, :half], data[1][:, :half])
    warm, _ = train(initial(settings.repeats, rng), first_half, settings.half_epochs, settings, rng)
    starts = {
        "fresh": initial(settings.repeats, rng),
        "warm": warm,
        "perturb": settings.shrink * warm + settings.noise * rng.standard_normal(warm.shape, dtype=np.float32),
    }
    trained = {arm: train(start, data, settings.epochs, settings, rng, test) for arm, start in starts.items()}
    arrays: dict[str, Any] = {}
    for arm, (parameters, curve) in trained.items():
        arrays[f"{arm}/test_accuracy"] = curve
        for number, (weights, biases) in enumerate(unpack(parameters), start=1):
            arrays |= {f"{arm}/layer{number}/weights": weights, f"{arm}/layer{number}/biases": biases}

    out = Path("out")
    out.mkdir(exist_ok=True)
    np.savez(out / "model.npz", **arrays)  # numpy dates the members 1980-01-01
    plot(trained, out / "curves.svg")
    arms = summarise(trained, data)
    metrics = {"arms": arms, "seconds": round(time.perf_counter() - began, 3), "settings": asdict(settings)}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for arm, name in ARMS.items():
        right, gap, error = (arms[arm][key] for key in ("test_accuracy", "gap_mean", "gap_standard_error"))
        print(f"{name:20}{100 * right:.2f} % right, {gap:5.2f} ± {error:.2f} points behind the fresh start")


if __name__ == "__main__":
    main()
