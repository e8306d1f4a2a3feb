"""`fit`: the training loop."""

import csv
import hashlib
import io
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion import losses, scores
from deeplab_fashion.data import PhotoSource
from deeplab_fashion.errors import CheckpointError, TrainingError
from deeplab_fashion.training.checkpoints import CheckpointFolder, write_whole
from deeplab_fashion.training.schedules import ScheduleName, learning_rate_at

__all__ = ["TrainingResult", "fit"]

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes:
        model: The model, with its best weights.
        history: For each quantity one number an epoch.
        best_epoch: The epoch of the model's weights, counted from 1.
        best_score: Its mean IoU on the validation data; NaN without validation.
        confusion: Its confusion matrix on the validation data, or None.
        run_dir: Where checkpoints and logs lie, or None.
    """

    model: keras.Model
    history: dict[str, list[float]]
    best_epoch: int
    best_score: float
    confusion: NDArray[np.int64] | None
    run_dir: Path | None


def _twin(model: keras.Model, precision: str) -> keras.Model:
    """Return a copy of a functional model, with the same weights, that computes in ``precision``."""

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if "dtype" in config and layer.compute_dtype == layer.variable_dtype == "float32":
            last = any(layer is output._keras_history[0] for output in model.outputs)
            config["dtype"] = "float32" if last else f"mixed_{precision}"
        return type(layer).from_config(config)

    twin = keras.models.clone_model(model, clone_function=copy, recursive=True)
    twin.set_weights(model.get_weights())
    return twin


def _float_variables(model: keras.Model) -> list[Any]:
    return [v for v in model.weights if tf.as_dtype(v.dtype).is_floating]


def _random_states(model: keras.Model) -> list[Any]:
    return [v for v in model.variables if "seed_generator_state" in v.path]


class _Loop:
    """The compiled steps, and every variable that they change."""

    def __init__(
        self,
        model: keras.Model,
        loss: Callable[[Any, Any], Any],
        groups: list[tuple[keras.optimizers.Optimizer, list[Any], float]],
        *,
        num_classes: int,
        ignore_index: int,
        ema_decay: float | None,
        clip_norm: float | None,
        seed: int,
    ) -> None:
        self.model, self.loss, self.groups = model, loss, groups
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.ema_decay, self.clip_norm = ema_decay, clip_norm
        self.averaged = _float_variables(model) if ema_decay else []
        self.averages = [tf.Variable(v.value, trainable=False) for v in self.averaged]
        for position, state in enumerate(_random_states(model)):
            start = np.random.default_rng([seed, position]).integers(2**31, size=2)
            state.assign(start.astype(state.dtype))
        for optimizer, variables, _ in groups:
            optimizer.build(variables)
        self.train_step = tf.function(self._train_step)
        self.validate_step = tf.function(self._validate_step)

    def state(self) -> list[Any]:
        """Every variable of the training, in an order that depends on the model alone."""
        optimizers = [v for optimizer, _, _ in self.groups for v in optimizer.variables]
        return [*self.model.variables, *optimizers, *self.averages]

    def _train_step(
        self, images: tf.Tensor, labels: tf.Tensor, rate: tf.Tensor, decay: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        variables = [v for _, group, _ in self.groups for v in group]
        with tf.GradientTape() as tape:
            value = self.loss(labels, self.model(images, training=True))
            value = tf.add_n([tf.cast(value, tf.float32), *self.model.losses])
        gradients = tape.gradient(
            value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        norm = tf.linalg.global_norm(gradients)
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm, use_norm=norm)
        sound = tf.math.is_finite(value) & tf.math.is_finite(norm)

        def apply() -> tf.Tensor:
            rest = iter(gradients)
            for optimizer, group, multiplier in self.groups:
                optimizer.learning_rate.assign(rate * multiplier)
                optimizer.apply([next(rest) for _ in group], group)
            for average, variable in zip(self.averages, self.averaged, strict=True):
                average.assign_sub((1 - decay) * (average - variable.value))
            return tf.constant(True)

        applied = tf.cond(sound, apply, lambda: tf.constant(False))
        beyond = (labels != self.ignore_index) & (tf.cast(labels, tf.int32) >= self.num_classes)
        return value, applied, tf.reduce_any(beyond)

    def _validate_step(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = self.model(images, training=False)
        classes = self.num_classes
        labels = tf.cast(labels, tf.int32)
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
        inside = (labels != self.ignore_index) & (labels >= 0) & (labels < classes)
        keys = tf.reshape(tf.where(inside, labels * classes + predicted, classes**2), [-1])
        counts = tf.raw_ops.Bincount(arr=keys, size=classes**2, weights=tf.zeros([0], tf.int64))
        return self.loss(labels, logits), tf.reshape(counts, (classes, classes))

    def evaluate(self, dataset: tf.data.Dataset) -> tuple[float, NDArray[np.int64]]:
        """Return the mean loss and the confusion matrix, of the averaged weights if there are."""
        kept = [v.numpy() for v in self.averaged]
        for variable, average in zip(self.averaged, self.averages, strict=True):
            variable.assign(average)
        total, images, confusion = 0.0, 0, np.zeros((self.num_classes,) * 2, np.int64)
        for batch in dataset:
            value, counts = self.validate_step(*batch)
            total += float(value) * len(batch[0])
            images += len(batch[0])
            confusion += counts.numpy()
        for variable, value in zip(self.averaged, kept, strict=True):
            variable.assign(value)
        return total / max(1, images), confusion


def fit(
    model: keras.Model,
    train: tf.data.Dataset,
    validation: tf.data.Dataset | None = None,
    *,
    epochs: int,
    loss: Callable[[Any, Any], Any] | None = None,
    learning_rate: float = 1e-3,
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw",
    weight_decay: float = 1e-4,
    schedule: ScheduleName = "poly",
    warmup_epochs: float = 0.0,
    backbone_multiplier: float = 1.0,
    clip_norm: float | None = None,
    ema_decay: float | None = None,
    class_weights: Sequence[float] | None = None,
    precision: Precision | Literal["auto"] = "auto",
    run_dir: str | Path | None = None,
    resume: bool = True,
    seed: int = 0,
    ignore_index: int = 255,
    progress: bool = True,
) -> TrainingResult:
    """Train a segmentation model."""
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    source: PhotoSource | None = getattr(train, "source", None)
    num_classes = int(model.output_shape[-1])
    if source is not None and source.num_classes != num_classes:
        raise ValueError(
            f"the label map of the training data has {source.num_classes} classes, "
            f"but the model gives {num_classes}"
        )
    steps = source.steps if source else int(train.cardinality())
    if steps < 1:
        raise ValueError("train must be a finite dataset of at least one batch")
    if loss is None:
        loss = losses.CrossEntropy(class_weights=class_weights, ignore_index=ignore_index)

    if precision == "auto":
        precision = "float32"
    worker = model if precision == "float32" else _twin(model, precision)
    inner = [layer for layer in worker.layers if isinstance(layer, keras.Model)]
    in_backbone = {id(v) for layer in inner for v in layer.trainable_variables}
    slow = [v for v in worker.trainable_variables if id(v) in in_backbone]
    fast = [v for v in worker.trainable_variables if id(v) not in in_backbone]
    groups = [
        (_optimizer(optimizer, learning_rate, weight_decay, variables), variables, multiplier)
        for variables, multiplier in ((fast, 1.0), (slow, backbone_multiplier))
        if variables
    ]
    loop = _Loop(
        worker,
        loss,
        groups,
        num_classes=num_classes,
        ignore_index=ignore_index,
        ema_decay=ema_decay,
        clip_norm=clip_norm,
        seed=seed,
    )

    settings = {
        "epochs": epochs,
        "loss": _describe(loss),
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "warmup_epochs": warmup_epochs,
        "backbone_multiplier": backbone_multiplier,
        "clip_norm": clip_norm,
        "ema_decay": ema_decay,
        "precision": precision,
        "seed": seed,
        "model": hashlib.sha256(
            json.dumps([(v.path, list(v.shape)) for v in model.weights]).encode()
        ).hexdigest()[:16],
        **{f"train.{k}": v for k, v in (source.settings() if source else {}).items()},
    }
    folder = None
    rows: list[dict[str, float]] = []
    best = {"epoch": 0, "score": -math.inf, "confusion": None}
    if run_dir is not None:
        run_dir = Path(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        _check_settings(run_dir / "settings.json", settings, resume)
        folder = CheckpointFolder(run_dir / "checkpoints")
        found = folder.load_newest() if resume else None
        if found is None:
            folder.keep([])
        else:
            _, arrays, state = found
            rows, best = state["rows"], state["best"]
            for position, variable in enumerate(loop.state()):
                variable.assign(arrays[f"v{position}"])
    best_weights = [v.numpy() for v in worker.weights]

    show = sys.stderr if progress else io.StringIO()
    for epoch in range(len(rows), epochs):
        started = time.perf_counter()
        dataset = source.at_epoch(epoch) if source else train
        total, seen = 0.0, 0
        for step, (images, labels) in enumerate(dataset):
            at = epoch * steps + step
            rate = learning_rate_at(
                at,
                base=learning_rate,
                steps=epochs * steps,
                schedule=schedule,
                warmup_steps=round(warmup_epochs * steps),
            )
            decay = min(ema_decay, (1 + at) / (10 + at)) if ema_decay else 0.0
            value, applied, beyond = loop.train_step(
                images,
                labels,
                tf.constant(rate, tf.float32),
                tf.constant(decay, tf.float32),
            )
            where = f"step {step + 1} of epoch {epoch + 1}"
            if source:
                where += f", images {', '.join(source.batch_ids(epoch, step))}"
            if bool(beyond):
                raise ValueError(
                    f"labels must be 0 to {num_classes - 1} or ignore_index={ignore_index}, "
                    f"got {int(tf.reduce_max(labels))} in {where}"
                )
            if not bool(applied):
                raise TrainingError(
                    f"the loss is {float(value)} or its gradient is not finite in {where}"
                )
            total += float(value) * len(images)
            seen += len(images)
            if show.isatty():
                pace = (time.perf_counter() - started) / (step + 1)
                show.write(
                    f"\repoch {epoch + 1}/{epochs}  step {step + 1}/{steps}  "
                    f"loss {total / seen:.4f}  {pace:.2f} s/step  "
                    f"{pace * (steps - step - 1):4.0f} s left \x1b[K"
                )
                show.flush()
        row = {"epoch": epoch + 1, "learning_rate": rate, "loss": total / max(1, seen)}
        confusion = None
        if validation is not None:
            row["val_loss"], confusion = loop.evaluate(validation)
            row["val_mean_iou"] = float(scores.mean_iou(confusion))
            row["val_mean_f1"] = float(scores.mean_f1(confusion))
        rows.append(row)
        score = row.get("val_mean_iou", float(epoch))
        if score > best["score"] or best["epoch"] == 0:
            best = {
                "epoch": epoch + 1,
                "score": score,
                "confusion": None if confusion is None else confusion.tolist(),
            }
        if folder is not None and run_dir is not None:
            arrays = {f"v{i}": v.numpy() for i, v in enumerate(loop.state())}
            folder.save(epoch + 1, arrays, {"rows": rows, "best": best})
            folder.keep({epoch, epoch + 1, best["epoch"]})
            _write_history(Path(run_dir) / "history.csv", rows)
        elif best["epoch"] == epoch + 1:
            best_weights = _evaluated_weights(loop)
        took = time.perf_counter() - started
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
        show.write(f"\repoch {epoch + 1}/{epochs}  {shown}  {took:.0f} s\x1b[K\n")
        show.flush()

    if folder is not None:
        arrays, _ = folder.load(best["epoch"])
        for position, variable in enumerate(loop.state()):
            variable.assign(arrays[f"v{position}"])
        best_weights = _evaluated_weights(loop)
    model.set_weights(best_weights)
    return TrainingResult(
        model=model,
        history={name: [row[name] for row in rows] for name in rows[0]},
        best_epoch=best["epoch"],
        best_score=best["score"] if validation is not None else math.nan,
        confusion=None if best["confusion"] is None else np.array(best["confusion"], np.int64),
        run_dir=run_dir,
    )


def _evaluated_weights(loop: _Loop) -> list[NDArray[Any]]:
    averaged = {id(v): a for v, a in zip(loop.averaged, loop.averages, strict=True)}
    return [averaged.get(id(v), v).numpy() for v in loop.model.weights]


def _optimizer(
    name: str, learning_rate: float, weight_decay: float, variables: list[Any]
) -> keras.optimizers.Optimizer:
    if name == "adamw":
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay)
    elif name == "adam":
        optimizer = keras.optimizers.Adam(learning_rate)
    elif name == "sgd":
        optimizer = keras.optimizers.SGD(
            learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
        )
    else:
        raise ValueError(f"optimizer must be 'adamw', 'adam' or 'sgd', got {name!r}")
    if name != "adam":
        optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
    return optimizer


def _describe(loss: Any) -> Any:
    if isinstance(loss, keras.losses.Loss):
        return [type(loss).__name__, json.loads(json.dumps(loss.get_config(), default=str))]
    return getattr(loss, "__qualname__", repr(loss))


def _check_settings(path: Path, settings: dict[str, Any], resume: bool) -> None:
    settings = json.loads(json.dumps(settings))
    if resume and path.exists():
        before = json.loads(path.read_text())
        differing = [
            f"{name} was {before.get(name)!r} and is {settings.get(name)!r}"
            for name in sorted(before.keys() | settings.keys())
            if before.get(name) != settings.get(name)
        ]
        if differing:
            raise CheckpointError(
                f"run_dir {path.parent} belongs to another configuration: {'; '.join(differing)}; "
                "give another run_dir, or resume=False to start anew in this one"
            )
    write_whole(path, json.dumps(settings, indent=1).encode())


def _write_history(path: Path, rows: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
