"""Fixtures that several test files share."""

import sys
import threading
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside a checkout; what needs it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared, which is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def measured_in_tensorflows_threads():
    """Let coverage see what TensorFlow calls from its own threads, which Python does not trace."""
    trace = threading.gettrace()
    if trace is None:
        yield
        return
    import tensorflow as tf

    numpy_function = tf.numpy_function

    def traced(function, *arguments, **options):
        def call(*inputs):
            if sys.gettrace() is None:
                sys.settrace(trace)
            return function(*inputs)

        return numpy_function(call, *arguments, **options)

    tf.numpy_function = traced
    yield
    tf.numpy_function = numpy_function


@pytest.fixture(scope="session")
def colour_model():
    """A network whose right answer is known: black, red, green, blue -> class 0, 1, 2, 3."""
    import keras
    import numpy as np

    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 1)])
    kernel = np.zeros((1, 1, 3, 4), np.float32)
    kernel[0, 0, [0, 1, 2], [1, 2, 3]] = 0.1
    model.set_weights([kernel, np.array([12, 0, 0, 0], np.float32)])
    return model
