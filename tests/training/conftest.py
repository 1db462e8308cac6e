"""A tiny learnable data set: classes differ in colour, images are 8×8."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 train and 20 test images, 4 classes, ordered by class."""
    generator = np.random.default_rng(0)
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [180, 180, 180]])

    def images(per_class: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(4), per_class)
        noise = generator.integers(-40, 41, (len(labels), 8, 8, 3))
        return (colours[labels][:, None, None, :] + noise).clip(0, 255).astype(np.uint8), labels

    train, test = images(20), images(5)
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(path, train_x=train[0], train_y=train[1], test_x=test[0], test_y=test[1])
    return path
