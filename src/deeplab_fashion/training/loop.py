"""The compiled steps of training and validation, and every variable that they change."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion.data import PADDING
from deeplab_fashion.models import logits_of
from deeplab_fashion.training.workers import Strategy, local_pieces

__all__ = ["Group", "Loop", "StepOutcome"]

_AUXILIARY_WEIGHT = 0.4  # Zhao et al., Pyramid Scene Parsing Network, 2017, section 4
_SUM = tf.distribute.ReduceOp.SUM
_GROWTH_STEPS = 2000  # steps without overflow after which the loss scale doubles, as in Keras
StepOutcome = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


@dataclass(frozen=True)
class Group:
    """Variables that learn at one pace."""

    optimizer: keras.optimizers.Optimizer
    variables: list[Any]
    multiplier: float = 1.0
    in_backbone: bool = False


class Loop:
    """One training: the model in its strategy, its optimizers, averages and random states."""

    def __init__(
        self,
        model: keras.Model,
        loss: Callable[[Any, Any], Any],
        groups: list[Group],
        strategy: Strategy,
        *,
        num_classes: int,
        ignore_index: int,
        ema_decay: float | None,
        clip_norm: float | None,
        accumulate: int,
        loss_scaling: bool,
        seed: int,
    ) -> None:
        self.model: keras.Model = model
        self.loss: Callable[[Any, Any], Any] = loss
        self.groups: list[Group] = groups
        self.strategy: Strategy = strategy
        self.replicas: int = strategy.num_replicas_in_sync
        self.num_classes: int = num_classes
        self.ignore_index: int = ignore_index
        self.clip_norm: float | None = clip_norm
        self.accumulate: int = accumulate
        floats = [v for v in model.weights if tf.as_dtype(v.dtype).is_floating]
        self.averaged: list[Any] = floats if ema_decay else []
        self.frozen = False
        with strategy.scope():
            self.averages: list[tf.Variable] = [
                tf.Variable(v.numpy(), trainable=False) for v in self.averaged
            ]
            scale = tf.constant(2.0**15 if loss_scaling else 1.0)
            self.scale: tf.Variable = tf.Variable(scale, trainable=False)
            self.sound_steps: tf.Variable = tf.Variable(tf.zeros((), tf.int64), trainable=False)
            for group in groups:
                group.optimizer.build(group.variables)
        self.loss_scaling = loss_scaling
        states = [v for v in model.variables if "seed_generator_state" in v.path]
        for position, state in enumerate(states):
            drawn = np.random.default_rng([seed, position]).integers(2**31, size=2)
            state.assign(drawn.astype(state.dtype))
        self._weights = list(model.weights)
        self._variables = [
            *model.variables,
            *(v for group in groups for v in group.optimizer.variables),
            *self.averages,
            self.scale,
            self.sound_steps,
        ]
        self._train_steps = {
            frozen: tf.function(functools.partial(self._train_step, frozen), autograph=False)
            for frozen in (False, True)
        }
        self._validate = tf.function(self._validate_step, autograph=False)

    def get_state(self) -> list[NDArray[Any]]:
        """Return the values of all that a training changes."""
        return [np.asarray(v.numpy()) for v in self._variables]

    def set_state(self, values: Iterable[NDArray[Any]]) -> None:
        """Set what `get_state` gave."""
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def evaluated_weights(self) -> list[NDArray[Any]]:
        """Return the weights that validation measures: the averages where there are any."""
        averaged: dict[int, Any] = {
            id(v): a for v, a in zip(self.averaged, self.averages, strict=True)
        }
        return [np.asarray(averaged.get(id(v), v).numpy()) for v in self._weights]

    def distribute(self, dataset: tf.data.Dataset[Any], source: Any, epoch: int | None) -> Any:
        """Return the batches of an epoch, split over the replicas."""
        if source is not None:
            pieces, total = local_pieces(self.strategy)
            if total == 1:
                return source.at_epoch(epoch)
            return self.strategy.distribute_datasets_from_function(
                lambda _: source.at_epoch(epoch, pieces=pieces, of=total)
            )
        if self.replicas == 1:
            return dataset
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        padded = dataset.map(self._pad, num_parallel_calls=tf.data.AUTOTUNE)
        return self.strategy.experimental_distribute_dataset(padded.with_options(options))

    def _pad(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Fill a batch up with ignored images, so that no replica's part is empty."""
        missing = tf.math.floormod(-tf.shape(images)[0], self.replicas)

        def pad(tensor: tf.Tensor, value: int) -> tf.Tensor:
            after = tf.concat([[missing], tf.zeros(tf.rank(tensor) - 1, tf.int32)], 0)
            paddings = tf.stack([tf.zeros_like(after), after], axis=1)
            return tf.pad(tensor, paddings, constant_values=tf.cast(value, tensor.dtype))

        return pad(images, PADDING), pad(labels, self.ignore_index)

    def train_step(self, images: Any, labels: Any, rate: float, decay: float) -> StepOutcome:
        """Work on one batch.

        Returns:
            Loss, number of images that count, whether the step was sound and therefore taken,
            and whether a label was none of the classes.
        """
        step = self._train_steps[self.frozen]
        outcome: StepOutcome = step(
            images, labels, tf.constant(rate, tf.float32), tf.constant(decay, tf.float32)
        )
        return outcome

    def _train_step(
        self, frozen: bool, images: Any, labels: Any, rate: tf.Tensor, decay: tf.Tensor
    ) -> StepOutcome:
        groups = [group for group in self.groups if not (frozen and group.in_backbone)]
        variables = [v for group in groups for v in group.variables]

        def replica(images: tf.Tensor, labels: tf.Tensor) -> tuple[Any, ...]:
            value, gradients = self._gradients(images, labels, variables)
            count, beyond = self._inspect(self._label_map(labels))
            if self.replicas > 1:
                context = tf.distribute.get_replica_context()
                value, count, beyond, gradients = context.all_reduce(
                    _SUM, (value, count, beyond, gradients)
                )
            return value, count, beyond, gradients

        value, count, beyond, gradients = self.strategy.run(replica, args=(images, labels))
        local = self.strategy.experimental_local_results
        firsts = [local(gradient)[0] / self.scale for gradient in gradients]
        norm = tf.linalg.global_norm(firsts)
        factor = 1 / self.scale
        if self.clip_norm:
            factor *= tf.minimum(1.0, self.clip_norm / norm)
        value = local(value)[0]
        sound = tf.math.is_finite(value) & tf.math.is_finite(norm)

        def take() -> tf.Tensor:
            self.strategy.run(self._apply, args=(groups, gradients, factor, rate, decay))
            return tf.constant(True)

        taken = tf.cond(sound, take, lambda: tf.constant(False))
        if self.loss_scaling:
            steps = tf.where(sound, self.sound_steps + 1, tf.zeros((), tf.int64))
            grown = tf.where(steps >= _GROWTH_STEPS, self.scale * 2, self.scale)
            self.scale.assign(tf.where(sound, grown, tf.maximum(self.scale / 2, 1.0)))
            self.sound_steps.assign(tf.math.floormod(steps, _GROWTH_STEPS))
        return value, local(count)[0], taken, local(beyond)[0] > 0

    def _gradients(
        self, images: tf.Tensor, labels: tf.Tensor, variables: list[Any]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        def once(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape() as tape:
                output = self.model(images, training=True)
                value = self._loss(labels, logits_of(output))
                if isinstance(output, dict):
                    value += _AUXILIARY_WEIGHT * self._loss(labels, output["auxiliary"])
                penalties = [tf.cast(p, tf.float32) / self.replicas for p in self.model.losses]
                value = tf.add_n([value, *penalties]) / self.accumulate
                scaled = value * self.scale
            zero = tf.UnconnectedGradients.ZERO
            slopes: Any = tape.gradient(scaled, variables, unconnected_gradients=zero)
            return value, slopes

        if self.accumulate == 1:
            return once(images, labels)
        size = -(-tf.shape(images)[0] // self.accumulate)

        def piece(start: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            part = slice(start, start + size)
            value, gradients = once(images[part], labels[part])
            return (start + size, *(a + b for a, b in zip(sums, [value, *gradients], strict=True)))

        zeros = [tf.zeros(()), *(tf.zeros(v.shape, v.dtype) for v in variables)]
        _, value, *gradients = tf.while_loop(
            lambda start, *_: start < tf.shape(images)[0],
            piece,
            [tf.constant(0), *zeros],
            parallel_iterations=1,
        )
        return value, gradients

    def _loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        value = tf.reduce_mean(tf.cast(self.loss(labels, logits), tf.float32))
        reduction = getattr(self.loss, "reduction", None)
        if isinstance(self.loss, keras.losses.Loss) and reduction not in (None, "none"):
            return value  # Keras has divided it by the number of replicas
        return value / self.replicas

    def _label_map(self, labels: tf.Tensor) -> tf.Tensor:
        if labels.shape.rank == 4 and labels.shape[-1] == 1:
            labels = tf.squeeze(labels, -1)
        elif labels.shape.rank == 4:
            hot = tf.argmax(labels, axis=-1, output_type=tf.int32)
            labels = tf.where(tf.reduce_any(labels != 0, axis=-1), hot, self.ignore_index)
        return tf.cast(labels, tf.int32)

    def _inspect(self, truth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return how many images have something to learn from, and how many labels are wrong."""
        valid = truth != self.ignore_index
        count = tf.reduce_sum(tf.cast(tf.reduce_any(valid, axis=(1, 2)), tf.float32))
        wrong = valid & ((truth >= self.num_classes) | (truth < 0))
        return count, tf.reduce_sum(tf.cast(wrong, tf.float32))

    def _apply(
        self,
        groups: list[Group],
        gradients: list[tf.Tensor],
        factor: tf.Tensor,
        rate: tf.Tensor,
        decay: tf.Tensor,
    ) -> None:
        # The optimizer sums over the replicas once more, hence the division.
        rest = iter(gradients)
        for group in groups:
            group.optimizer.learning_rate.assign(rate * group.multiplier)
            mine = [next(rest) * (factor / self.replicas) for _ in group.variables]
            group.optimizer.apply(mine, group.variables)
        for average, variable in zip(self.averages, self.averaged, strict=True):
            average.assign_sub((1 - decay) * (average - variable.value))

    def _validate_step(
        self, images: Any, labels: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        classes = self.num_classes

        def replica(images: tf.Tensor, labels: tf.Tensor) -> Any:
            logits = logits_of(self.model(images, training=False))
            truth = self._label_map(labels)
            predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
            inside = (truth != self.ignore_index) & (truth >= 0) & (truth < classes)
            # Bincount drops keys beyond its size.
            keys = tf.reshape(tf.where(inside, truth * classes + predicted, classes**2), [-1])
            counts = tf.raw_ops.Bincount(arr=keys, size=classes**2, weights=tf.zeros([0], tf.int64))
            value = self._loss(labels, logits)
            count, beyond = self._inspect(truth)
            counts = tf.reshape(counts, (classes, classes))
            if self.replicas > 1:  # one type at a time
                context = tf.distribute.get_replica_context()
                value, count, beyond = context.all_reduce(_SUM, (value, count, beyond))
                counts = context.all_reduce(_SUM, counts)
            return value, count, beyond, counts

        outcome = self.strategy.run(replica, args=(images, labels))
        value, count, beyond, counts = (
            self.strategy.experimental_local_results(part)[0] for part in outcome
        )
        return value, count, beyond, counts

    def evaluate(self, batches: Iterable[Any]) -> tuple[float, NDArray[np.int64]]:
        """Return the mean loss and the confusion matrix of the weights that count.

        Raises:
            ValueError: If a label is none of the classes.
        """
        kept = [v.numpy() for v in self.averaged]
        for variable, average in zip(self.averaged, self.averages, strict=True):
            variable.assign(average.numpy())
        total, images = 0.0, 0.0
        confusion = np.zeros((self.num_classes,) * 2, np.int64)
        for step, batch in enumerate(batches):
            value, count, beyond, counts = self._validate(*batch)
            if int(beyond):
                raise ValueError(
                    f"labels of the validation data must be 0 to {self.num_classes - 1} or "
                    f"ignore_index={self.ignore_index}, but {int(beyond)} pixels of batch {step} "
                    "are not"
                )
            total += float(value) * float(count)
            images += float(count)
            confusion += counts.numpy()
        for variable, value in zip(self.averaged, kept, strict=True):
            variable.assign(value)
        return total / max(1.0, images), confusion
