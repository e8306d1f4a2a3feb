"""Training: one `fit` that can be stopped at any moment and goes on bit by bit as it would have."""

from deeplab_fashion.training.fitting import TrainingResult, fit

__all__ = ["TrainingResult", "fit"]
