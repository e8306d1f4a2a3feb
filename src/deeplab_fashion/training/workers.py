"""Strategies: one device, all GPUs of a machine, or several machines."""

import functools
import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion.errors import TrainingError

if TYPE_CHECKING:

    class Strategy(Protocol):
        """``tf.distribute.Strategy`` as far as it is used here; TensorFlow has no types of it."""

        num_replicas_in_sync: int
        cluster_resolver: Any

        def scope(self) -> AbstractContextManager[Any]: ...
        def run(self, fn: Callable[..., Any], args: tuple[Any, ...] = ()) -> Any: ...
        def experimental_local_results(self, value: Any) -> tuple[Any, ...]: ...
        def distribute_datasets_from_function(self, dataset_fn: Callable[[Any], Any]) -> Any: ...
        def experimental_distribute_dataset(self, dataset: Any) -> Any: ...

else:
    Strategy = tf.distribute.Strategy

__all__ = ["choose_strategy", "from_chief", "is_chief", "join_workers", "local_pieces"]


@functools.cache
def join_workers() -> Strategy:
    """Meet the other machines of ``TF_CONFIG``; call it before anything else uses TensorFlow.

    Every machine runs the same program with its own ``task.index``. The call waits until all have
    come; ``fit(..., strategy="multi-worker")`` then trains on them together.

    Returns:
        The strategy, the same one for every call.

    Raises:
        TrainingError: If ``TF_CONFIG`` names no workers, or TensorFlow is already in use.

    Example:
        >>> join_workers()  # doctest: +SKIP
        <tensorflow.python.distribute.collective_all_reduce_strategy...>
    """
    try:
        workers = json.loads(os.environ.get("TF_CONFIG", "{}"))["cluster"]["worker"]
    except (ValueError, KeyError, TypeError):
        raise TrainingError(
            "strategy 'multi-worker' needs the environment variable TF_CONFIG: JSON with "
            '"cluster": {"worker": ["host:port", ...]} and "task": {"type": "worker", "index": 0}; '
            f"got {os.environ.get('TF_CONFIG')!r}"
        ) from None
    try:
        joined: Strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise TrainingError(
            f"cannot join the {len(workers)} workers of TF_CONFIG: {error}; call "
            "deeplab_fashion.training.join_workers() as the program's first use of TensorFlow, "
            "before models and datasets are made"
        ) from error
    return joined


def choose_strategy(strategy: str | Strategy | None, model: keras.Model) -> Strategy:
    """Return the strategy that ``fit`` works under."""
    if isinstance(strategy, tf.distribute.Strategy):
        return cast("Strategy", strategy)
    active: Strategy = tf.distribute.get_strategy()
    if strategy is None:
        return active
    homes = [getattr(v.value, "distribute_strategy", None) for v in model.weights[:1]]
    built_in: Strategy = homes[0] if homes and homes[0] else active
    if strategy == "multi-worker":
        joined = isinstance(built_in, tf.distribute.MultiWorkerMirroredStrategy)
        return built_in if joined else join_workers()
    if strategy != "auto":
        raise ValueError(
            "strategy must be 'auto', 'multi-worker', None or a tf.distribute.Strategy, "
            f"got {strategy!r}"
        )
    if built_in.num_replicas_in_sync == 1 and len(tf.config.list_logical_devices("GPU")) > 1:
        built_in = tf.distribute.MirroredStrategy()
    return built_in


def local_pieces(strategy: Strategy) -> tuple[range, int]:
    """Return which of a batch's equal pieces this process works on, and how many there are."""
    total = strategy.num_replicas_in_sync
    resolver = strategy.cluster_resolver
    spec = resolver.cluster_spec() if resolver else None
    workers = (
        len(spec.as_dict().get("worker", ())) + len(spec.as_dict().get("chief", ())) if spec else 1
    )
    local = total // max(1, workers)
    return range(_rank(strategy) * local, (_rank(strategy) + 1) * local), total


def _rank(strategy: Strategy) -> int:
    resolver = strategy.cluster_resolver
    if not resolver or not resolver.task_type or not resolver.cluster_spec():
        return 0
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
    return int(resolver.task_id) + (chiefs if resolver.task_type == "worker" else 0)


def is_chief(strategy: Strategy) -> bool:
    """Return whether this process writes the files."""
    return _rank(strategy) == 0


def from_chief(strategy: Strategy, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the chief's arrays in every process; shapes and types are the same in all."""
    pieces, total = local_pieces(strategy)
    if len(pieces) == total:
        return list(arrays)
    chief = is_chief(strategy)

    @tf.function
    def summed(parts: list[tf.Tensor]) -> Any:
        def replica(parts: list[tf.Tensor]) -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group, 0)
            own = [tf.where(first & chief, part, tf.zeros_like(part)) for part in parts]
            return [context.all_reduce(tf.distribute.ReduceOp.SUM, part) for part in own]

        return strategy.run(replica, args=(parts,))

    kinds = [np.asarray(array).dtype for array in arrays]
    wide = [np.asarray(a, np.float32 if a.dtype == np.float32 else np.int64) for a in arrays]
    received = summed([tf.constant(a) for a in wide])
    first = [strategy.experimental_local_results(value)[0].numpy() for value in received]
    return [value.astype(kind) for value, kind in zip(first, kinds, strict=True)]
