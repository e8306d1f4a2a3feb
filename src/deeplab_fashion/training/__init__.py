"""Training: one `fit` that can be stopped at any moment and goes on bit by bit as it would have."""

from deeplab_fashion.training.fitting import TrainingResult, fit
from deeplab_fashion.training.schedules import learning_rate_at
from deeplab_fashion.training.workers import join_workers

__all__ = ["TrainingResult", "fit", "join_workers", "learning_rate_at"]
