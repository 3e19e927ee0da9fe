"""Settings of the benchmarks of `continual.py`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Those of one benchmark, from the authors' public code but where a comment says otherwise.

    Attributes:
        units, activation: of the network that learns. The last units are its outputs.
        hyper_units, hyper_activation: of the hypernetwork that writes it piece by piece.
        chunk_size, chunk_embedding_dim: of the pieces; `None` writes the network at once.
        embedding_dim: size of a task's embedding.
        learning_rate, steps, batch_size, clip: of the training on one task.
        strength: of the regularizer.
        inputs: number of features.
    """

    units: tuple[int, ...]
    activation: str
    hyper_units: tuple[int, ...]
    hyper_activation: str
    chunk_size: int | None
    chunk_embedding_dim: int
    embedding_dim: int
    learning_rate: float
    steps: int
    batch_size: int
    strength: float
    clip: float | None = None
    inputs: int = 784


# Chunks of all tasks share their embeddings here; the authors' have their own for each task. So the
# last hidden layer is wider than theirs: what the earlier tasks hold is a fixed set of features,
# and a new task can only mix others. With 100 units SplitMNIST's last task stays at 98 %.
# PermutedMNIST has 2,000 steps a task here, 5,000 there.
SETTINGS = {
    "toy": Settings(
        (10, 10, 1), "sigmoid", (10, 10), "sigmoid", None, 8, 2, 1e-2, 4000, 32, 0.005, inputs=1
    ),
    "split-mnist": Settings(
        (100, 100, 2), "relu", (100, 400), "relu", 750, 16, 32, 5e-4, 5000, 32, 0.001
    ),
    "permuted-mnist": Settings(
        (100, 100, 10), "relu", (100, 400), "relu", 750, 16, 32, 5e-4, 2000, 128, 0.01, 1.0
    ),
}
