"""`fit`: from a model and data to a trained model."""

import csv
import hashlib
import io
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion import losses, scores
from deeplab_fashion._files import replacing
from deeplab_fashion.data import PhotoSource
from deeplab_fashion.errors import CheckpointError, TrainingError
from deeplab_fashion.fast_path import has_bfloat16
from deeplab_fashion.models import in_precision
from deeplab_fashion.training.checkpoints import CheckpointFolder
from deeplab_fashion.training.loop import Group, Loop
from deeplab_fashion.training.report import write_report
from deeplab_fashion.training.schedules import ScheduleName, learning_rate_at
from deeplab_fashion.training.workers import Strategy, choose_strategy, from_chief, is_chief

__all__ = ["TrainingResult", "fit"]

Precision = Literal["auto", "float32", "float16", "bfloat16"]
OptimizerName = Literal["adamw", "adam", "sgd"]

# Parameters from which bfloat16 pays on a CPU that has it: a step of DeepLabV3+ takes 0.63 of the
# time of float32 on ResNet50, 0.66 on InceptionResNetV2 and 0.85 on EfficientNet-Lite0.
_LARGE_MODEL = 10_000_000


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes:
        model: The model that was given, with its best weights.
        history: For each quantity one number an epoch, in order.
        best_epoch: The epoch whose weights the model has, counted from 1.
        best_score: Its mean IoU on the validation data; NaN without validation data.
        confusion: Its confusion matrix on the validation data, rows are truth; None without.
        class_names: The names of the classes, where the data know them.
        run_dir: The folder of checkpoints, logs and report, or None.
        precision: The precision that "auto" came to.
    """

    model: keras.Model
    history: dict[str, list[float]]
    best_epoch: int
    best_score: float
    confusion: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    run_dir: Path | None
    precision: str


def fit(
    model: keras.Model,
    train: tf.data.Dataset[tuple[tf.Tensor, tf.Tensor]],
    validation: tf.data.Dataset[tuple[tf.Tensor, tf.Tensor]] | None = None,
    *,
    epochs: int,
    loss: Callable[[Any, Any], Any] | None = None,
    class_weights: Sequence[float] | Literal["balanced"] | None = None,
    optimizer: OptimizerName | keras.optimizers.Optimizer = "adamw",
    learning_rate: float = 1e-3,
    schedule: ScheduleName = "poly",
    warmup_epochs: float = 0.0,
    weight_decay: float = 1e-4,
    backbone_multiplier: float = 1.0,
    freeze_backbone_epochs: int = 0,
    clip_norm: float | None = None,
    accumulate: int = 1,
    ema_decay: float | None = None,
    early_stopping: int | None = None,
    run_dir: str | Path | None = None,
    resume: bool = True,
    seed: int = 0,
    precision: Precision = "auto",
    strategy: str | Strategy | None = "auto",
    ignore_index: int = 255,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    tensorboard: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train a segmentation model; a run that is killed goes on with the same call.

    With ``run_dir`` the state after each epoch is written there whole or not at all: weights,
    optimizer, averages, random states, history. The same call then goes on from the newest
    checkpoint and, on the same machine, ends with the same bits as a run that was never stopped.
    This holds for datasets of ``make_dataset``, and for others whose every pass is the same.

    ``run_dir`` then holds ``settings.json``, ``checkpoints/`` (the last two epochs and the best),
    ``history.csv``, and, at the end, ``best.weights.h5`` and ``report.html``.

    Args:
        model: Raw RGB in, one logit a class out; the loss of an auxiliary head counts 0.4 times
            beside it. It is trained in place, or through a copy where
            precision or strategy ask for one; at the end it has the best weights.
        train: Batches of (image, labels), finite. The batch size is that of all replicas
            together.
        validation: The same; None trains without measuring and keeps the last weights.
        epochs: Passes over ``train``, at least 1.
        loss: Called with (labels, predictions); `losses.CrossEntropy` by default.
        class_weights: One weight a class for the default loss; "balanced" asks
            `losses.balanced_class_weights` for them, with ``power=0.5``.
        optimizer: A name, or a Keras optimizer whose rate is then set by the schedule.
        learning_rate: The highest rate.
        schedule: "poly" (power 0.9) or "cosine" fall to 0 at the end; "constant" does not.
        warmup_epochs: Epochs over which the rate rises, fractions allowed.
        weight_decay: Decoupled, for AdamW and SGD, on weights with two or more axes.
        backbone_multiplier: The backbone's share of the learning rate.
        freeze_backbone_epochs: Epochs at the start in which the backbone stays as it is.
        clip_norm: The largest norm of all gradients together.
        accumulate: Parts that a batch is worked through in, one after another, so that memory
            need hold only one of them. Batch normalisation then counts over a part.
        ema_decay: Validate and keep an exponential moving average of the weights, such as 0.999;
            young averages decay faster, by (1 + step) / (10 + step).
        early_stopping: Epochs without a better mean IoU after which to stop.
        run_dir: The folder of this run; None keeps nothing on disk.
        resume: False starts anew and deletes the checkpoints in ``run_dir``.
        seed: Of dropout and other random layers.
        precision: "auto" is float16 with loss scaling on GPUs with tensor cores, bfloat16 for
            models of 10 million parameters on CPUs that multiply it, else float32.
        strategy: "auto" takes all GPUs of the machine, or the strategy under which the model was
            built; "multi-worker" the machines of ``TF_CONFIG`` (see `join_workers`); None none;
            or a ``tf.distribute.Strategy``.
        ignore_index: The label of pixels that do not count.
        callbacks: Told of every epoch and batch; their own state is not in the checkpoints.
        tensorboard: Write event files into ``run_dir/tensorboard``.
        progress: Show progress on standard error.

    Returns:
        The model with its best weights, and how it got there.

    Raises:
        TypeError: If ``train`` or ``validation`` is no dataset.
        ValueError: If an argument, the data or its labels break a rule.
        CheckpointError: If ``run_dir`` cannot be written, is damaged, or belongs to a run with
            other settings; the message names them.
        TrainingError: If the loss stops being a number; the message names the batch's images, and
            the checkpoints of the epochs before stay.

    Example:
        >>> import deeplab_fashion as df
        >>> records = df.samples.load()
        >>> train = df.data.make_dataset(
        ...     records, df.taxonomy.CCP_TO_MAIN, size=(32, 32), batch_size=4
        ... )
        >>> model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(6, 1)])
        >>> result = fit(model, train, epochs=2, learning_rate=1e-5, progress=False)
        >>> result.history["epoch"]
        [1, 2]

    References:
        The poly schedule: Chen et al., DeepLab, 2017; AdamW: Loshchilov and Hutter, 2019.
    """
    for name, number, least in (
        ("epochs", epochs, 1),
        ("accumulate", accumulate, 1),
        ("freeze_backbone_epochs", freeze_backbone_epochs, 0),
        ("early_stopping", 1 if early_stopping is None else early_stopping, 1),
        ("seed", seed, 0),
        ("warmup_epochs", warmup_epochs, 0),
        ("weight_decay", weight_decay, 0),
        ("backbone_multiplier", backbone_multiplier, 0),
        ("clip_norm", 0 if clip_norm is None else clip_norm, 0),
    ):
        if not number >= least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise ValueError(f"ema_decay must lie between 0 and 1, got {ema_decay}")
    if schedule not in get_args(ScheduleName):
        raise ValueError(f"schedule must be one of {get_args(ScheduleName)}, got {schedule!r}")
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {get_args(Precision)}, got {precision!r}")
    if class_weights is not None and loss is not None:
        raise ValueError("class_weights belong to the default loss; give them to your loss itself")
    if early_stopping is not None and validation is None:
        raise ValueError("early_stopping needs validation data to measure on")
    _check_dataset("train", train)
    if validation is not None:
        _check_dataset("validation", validation)
    num_classes = _count_classes(model)
    home = choose_strategy(strategy, model)
    replicas = home.num_replicas_in_sync
    source: PhotoSource | None = getattr(train, "source", None)
    measured: PhotoSource | None = getattr(validation, "source", None)
    for name, part in (("train", source), ("validation", measured)):
        if part is not None and part.num_classes != num_classes:
            raise ValueError(
                f"model gives {num_classes} classes, but the label map of {name} has "
                f"{part.num_classes}: {', '.join(part.class_names)}"
            )
    steps = source.steps if source else _count_batches(train)
    if accumulate > 1 and replicas > 1:
        raise ValueError(f"accumulate must be 1 with several replicas, got {accumulate}")
    if loss is None:
        loss = losses.CrossEntropy(
            class_weights=_weigh_classes(class_weights, source),
            ignore_index=ignore_index,
            from_logits=not _ends_in_softmax(model),
        )

    with home.scope():
        worker, precision = _working_model(model, precision, home)
        groups = _groups(worker, optimizer, learning_rate, weight_decay, backbone_multiplier)
        if freeze_backbone_epochs and not any(group.in_backbone for group in groups):
            raise ValueError("freeze_backbone_epochs needs a model with a backbone inside")
        loop = Loop(
            worker,
            loss,
            groups,
            home,
            num_classes=num_classes,
            ignore_index=ignore_index,
            ema_decay=ema_decay,
            clip_norm=clip_norm,
            accumulate=accumulate,
            loss_scaling=precision == "float16",
            seed=seed,
        )
    settings = {
        "epochs": epochs,
        "loss": _describe(loss),
        "optimizer": _describe(optimizer),
        "learning_rate": learning_rate,
        "schedule": schedule,
        "warmup_epochs": warmup_epochs,
        "weight_decay": weight_decay,
        "backbone_multiplier": backbone_multiplier,
        "freeze_backbone_epochs": freeze_backbone_epochs,
        "clip_norm": clip_norm,
        "accumulate": accumulate,
        "ema_decay": ema_decay,
        "early_stopping": early_stopping,
        "seed": seed,
        "precision": precision,
        "ignore_index": ignore_index,
        "model": _describe_model(model),
        **_describe_data("train", train, source),
        **_describe_data("validation", validation, measured),
    }
    run = _Run(Path(run_dir) if run_dir is not None else None, home, loop, settings, resume)

    listeners = keras.callbacks.CallbackList(list(callbacks), model=worker)
    events = None
    if tensorboard and run.chief:
        if run.folder is None:
            raise ValueError("tensorboard=True needs a run_dir to write to")
        events = tf.summary.create_file_writer(str(run.folder / "tensorboard"))
    show = _Display(epochs, steps, shown=progress and run.chief)
    if run.rows:
        show.resume(len(run.rows), run.folder)
    listeners.on_train_begin()
    for epoch in range(len(run.rows), epochs):
        if run.stale_epochs >= (early_stopping or math.inf):
            break
        _freeze(loop, epoch < freeze_backbone_epochs)
        listeners.on_epoch_begin(epoch)
        show.begin(epoch)
        total, counted, rate = 0.0, 0.0, 0.0
        for step, (images, labels) in enumerate(loop.distribute(train, source, epoch)):
            at = epoch * steps + step
            rate = learning_rate_at(
                at,
                base=learning_rate,
                steps=epochs * steps,
                schedule=schedule,
                warmup_steps=round(warmup_epochs * steps),
            )
            decay = min(ema_decay, (1 + at) / (10 + at)) if ema_decay else 0.0
            listeners.on_train_batch_begin(step)
            value, count, taken, beyond = loop.train_step(images, labels, rate, decay)
            number = float(value)
            if bool(beyond) or not (bool(taken) or (loop.loss_scaling and math.isfinite(number))):
                model.set_weights(run.best_weights())
                _stop(number, bool(beyond), loop, source, epoch, step)
            total += number * float(count)
            counted += float(count)
            listeners.on_train_batch_end(step, {"loss": number})
            show.step(step, total / max(1.0, counted))
        row = {"epoch": epoch + 1, "learning_rate": rate, "loss": total / max(1.0, counted)}
        confusion = None
        if validation is not None:
            batches = loop.distribute(validation, measured, 0)
            row["val_loss"], confusion = loop.evaluate(batches)
            row["val_mean_iou"] = float(scores.mean_iou(confusion))
            row["val_mean_f1"] = float(scores.mean_f1(confusion))
            row["val_pixel_accuracy"] = float(scores.pixel_accuracy(confusion))
        run.end_epoch(row, confusion)
        if events is not None:
            _write_events(events, row)
        show.end(row)
        listeners.on_epoch_end(epoch, {k: v for k, v in row.items() if k != "epoch"})
        if getattr(worker, "stop_training", False):
            break
    _freeze(loop, False)
    listeners.on_train_end()

    model.set_weights(run.best_weights())
    names = source.class_names if source else tuple(f"class {i}" for i in range(num_classes))
    result = TrainingResult(
        model=model,
        history={name: [row[name] for row in run.rows] for name in run.rows[0]},
        best_epoch=run.best["epoch"],
        best_score=run.best["score"] if validation is not None else math.nan,
        confusion=run.best_confusion(),
        class_names=names,
        run_dir=run.folder,
        precision=precision,
    )
    if run.folder is not None and run.chief:
        unfinished = run.folder / "unfinished.weights.h5"  # Keras asks for this ending
        model.save_weights(unfinished)
        unfinished.replace(run.folder / "best.weights.h5")
        write_report(
            run.folder / "report.html",
            history=result.history,
            confusion=result.confusion,
            class_names=names,
            settings=settings,
            best_epoch=result.best_epoch,
            model=model,
            source=measured,
        )
    return result


class _Run:
    """What of a training is kept: rows of the history, the best epoch, the files."""

    def __init__(
        self,
        folder: Path | None,
        strategy: Strategy,
        loop: Loop,
        settings: dict[str, Any],
        resume: bool,
    ) -> None:
        self.folder, self.loop, self._strategy = folder, loop, strategy
        self.chief = is_chief(strategy)
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Any] = {"epoch": 0, "score": -math.inf, "confusion": None}
        self._kept = loop.evaluated_weights()
        self._checkpoints: CheckpointFolder | None = None
        if folder is None:
            loop.set_state(from_chief(strategy, loop.get_state()))
            return
        if self.chief:
            try:
                self._open(folder, settings, resume)
            except OSError as error:
                raise CheckpointError(f"run_dir {folder} cannot be used: {error}") from error
        # Workers need not share a disk: the chief tells the others where to go on.
        note = np.frombuffer(json.dumps([self.rows, self.best]).encode(), np.uint8)
        length = from_chief(strategy, [np.array(len(note))])[0]
        note = np.resize(note, int(length))
        note, *state = from_chief(strategy, [note, *loop.get_state()])
        self.rows, self.best = json.loads(note.tobytes())
        loop.set_state(state)

    def _open(self, folder: Path, settings: dict[str, Any], resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._checkpoints = CheckpointFolder(folder / "checkpoints")
        path = folder / "settings.json"
        if not resume:
            self._checkpoints.keep([])
        elif self._checkpoints.epochs():
            _check_settings(path, settings)
        with replacing(path) as part:
            part.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        found = self._checkpoints.load_newest()
        if found is None:
            self._save(0)
            return
        epoch, notes, arrays = found
        self._checkpoints.keep(e for e in self._checkpoints.epochs() if e <= epoch)
        self.rows, self.best = notes["rows"], notes["best"]
        self.loop.set_state(arrays)
        self._write_history(folder)  # the kill may have come between checkpoint and history

    @property
    def stale_epochs(self) -> int:
        """Epochs since the best."""
        return len(self.rows) - int(self.best["epoch"])

    def end_epoch(self, row: dict[str, float], confusion: NDArray[np.int64] | None) -> None:
        """Take an epoch's results in and write its checkpoint."""
        self.rows.append(row)
        epoch = len(self.rows)
        score = row.get("val_mean_iou", float(epoch))
        if score > self.best["score"] or not self.best["epoch"]:
            matrix = None if confusion is None else confusion.tolist()
            score = -math.inf if math.isnan(score) else score
            self.best = {"epoch": epoch, "score": score, "confusion": matrix}
            if self._checkpoints is None:
                self._kept = self.loop.evaluated_weights()
        if self._checkpoints is None or self.folder is None:
            return
        try:
            self._save(epoch)
            self._write_history(self.folder)
        except OSError as error:
            raise CheckpointError(
                f"run_dir {self.folder} could not take the checkpoint of epoch {epoch}: {error}; "
                f"those before it are whole, and the same call goes on from there"
            ) from error
        self._checkpoints.keep({epoch - 1, epoch, self.best["epoch"]})

    def _save(self, epoch: int) -> None:
        if self._checkpoints is not None:
            notes = {"rows": self.rows, "best": self.best}
            self._checkpoints.save(epoch, self.loop.get_state(), notes)

    def _write_history(self, folder: Path) -> None:
        if self.rows:
            with replacing(folder / "history.csv") as part:
                part.write_text(_csv(self.rows), encoding="utf-8")

    def best_weights(self) -> list[NDArray[Any]]:
        """Return the weights of the best epoch; the loop's own state is given up for it."""
        if self._checkpoints is not None:
            try:
                self.loop.set_state(self._checkpoints.load(self.best["epoch"])[1])
            except CheckpointError as error:
                warnings.warn(f"{error}; the last epoch's weights are kept instead", stacklevel=3)
            self._kept = self.loop.evaluated_weights()
        return from_chief(self._strategy, self._kept)

    def best_confusion(self) -> NDArray[np.int64] | None:
        """Return the confusion matrix of the best epoch."""
        matrix = self.best["confusion"]
        return None if matrix is None else np.array(matrix, np.int64)


def _groups(
    model: keras.Model,
    optimizer: OptimizerName | keras.optimizers.Optimizer,
    learning_rate: float,
    weight_decay: float,
    backbone_multiplier: float,
) -> list[Group]:
    inner = {id(v) for layer in _backbones(model) for v in layer.trainable_variables}
    if backbone_multiplier != 1 and not inner:
        raise ValueError(
            f"backbone_multiplier is {backbone_multiplier}, but model {model.name!r} has no "
            "backbone, that is no model as one of its layers"
        )
    if not model.trainable_variables:
        raise ValueError(f"model {model.name!r} has nothing to train")
    groups = []
    for in_backbone, multiplier in ((False, 1.0), (True, backbone_multiplier)):
        part = [v for v in model.trainable_variables if (id(v) in inner) == in_backbone]
        if part:
            made = _optimizer(optimizer, learning_rate, weight_decay, part)
            groups.append(Group(made, part, multiplier, in_backbone))
    return groups


def _backbones(model: keras.Model) -> list[keras.Model]:
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def _freeze(loop: Loop, frozen: bool) -> None:
    if frozen != loop.frozen:
        loop.frozen = frozen
        for backbone in _backbones(loop.model):
            backbone.trainable = not frozen


def _optimizer(
    optimizer: OptimizerName | keras.optimizers.Optimizer,
    learning_rate: float,
    weight_decay: float,
    variables: list[Any],
) -> keras.optimizers.Optimizer:
    if isinstance(optimizer, keras.optimizers.Optimizer):
        config = {**optimizer.get_config(), "learning_rate": learning_rate}
        return type(optimizer).from_config(config)
    if optimizer == "adam":
        return keras.optimizers.Adam(learning_rate)
    if optimizer == "adamw":
        made = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay)
    elif optimizer == "sgd":
        made = keras.optimizers.SGD(
            learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
        )
    else:
        raise ValueError(
            f"optimizer must be one of {get_args(OptimizerName)} or a Keras optimizer, "
            f"got {optimizer!r}"
        )
    made.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
    return made


def _working_model(
    model: keras.Model, precision: Precision, strategy: Strategy
) -> tuple[keras.Model, Precision]:
    """Return the model to train, a copy where precision or strategy ask for it."""
    replicas = strategy.num_replicas_in_sync
    if precision == "auto":
        chosen = _fastest_precision(model)
        try:
            return _working_model(model, chosen, strategy)
        except TrainingError:
            return _working_model(model, "float32", strategy)
    if precision == "float32" and replicas == 1 and strategy is tf.distribute.get_strategy():
        return model, precision
    try:
        return in_precision(model, precision, synchronized=replicas > 1), precision
    except ValueError as error:
        raise TrainingError(f"precision {precision!r}, {replicas} replicas: {error}") from error


def _fastest_precision(model: keras.Model) -> Precision:
    if _has_tensor_cores():
        return "float16"
    on_processor = not tf.config.list_physical_devices("GPU")
    if on_processor and model.count_params() >= _LARGE_MODEL and has_bfloat16():
        return "bfloat16"
    return "float32"


def _has_tensor_cores() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return bool(gpus) and all(d.get("compute_capability", (0, 0)) >= (7, 0) for d in details)


def _ends_in_softmax(model: keras.Model) -> bool:
    last = model.layers[-1]
    activation = getattr(last, "activation", None)
    return isinstance(last, keras.layers.Softmax) or activation is keras.activations.softmax


def _weigh_classes(
    class_weights: Sequence[float] | Literal["balanced"] | None, source: PhotoSource | None
) -> Sequence[float] | None:
    if not isinstance(class_weights, str):
        return class_weights
    if class_weights != "balanced":
        raise ValueError(
            f"class_weights must be one number a class or 'balanced', got {class_weights!r}"
        )
    if source is None:
        raise ValueError("class_weights='balanced' needs a dataset of make_dataset")
    weights: list[float] = losses.balanced_class_weights(source.label_counts(), power=0.5).tolist()
    return weights


def _check_dataset(name: str, dataset: Any) -> None:
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(f"{name} must be a tf.data.Dataset, got {type(dataset).__name__}")
    spec: Any = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or len(spec[0].shape) != 4:
        raise ValueError(
            f"{name} must give batches of (images, labels), images of shape (batch, height, "
            f"width, channels), got {spec}"
        )


def _count_classes(model: keras.Model) -> int:
    output = getattr(model, "output", None)
    if isinstance(output, dict) and "logits" in output:
        outputs = [output["logits"]]
    else:
        outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(outputs[0].shape) != 4 or outputs[0].shape[-1] is None:
        raise ValueError(
            "model must be a functional Keras model with one output of shape "
            f"(batch, height, width, classes), got {type(model).__name__} {model.name!r} with "
            f"outputs {[tuple(output.shape) for output in outputs]}"
        )
    return int(outputs[0].shape[-1])


def _count_batches(dataset: tf.data.Dataset[Any]) -> int:
    count = int(dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise ValueError("train must be finite, but it repeats for ever; leave its repeat() out")
    if count == tf.data.UNKNOWN_CARDINALITY:
        count = sum(1 for _ in dataset)
    if count == 0:
        raise ValueError("train must hold at least one batch, but it is empty")
    return count


def _stop(
    loss: float, beyond: bool, loop: Loop, source: PhotoSource | None, epoch: int, step: int
) -> None:
    where = f"step {step + 1} of epoch {epoch + 1}"
    if source is not None:
        where += f", images {', '.join(source.batch_ids(epoch, step))}"
    if beyond:
        raise ValueError(
            f"labels must be 0 to {loop.num_classes - 1} or ignore_index={loop.ignore_index}, "
            f"but some are not in {where}"
        )
    what = "the gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
    raise TrainingError(
        f"{what} in {where}; the step was not taken, and the best weights so far are in the model "
        "and in run_dir; a lower learning_rate or clip_norm=1.0 may help"
    )


def _describe(thing: Any) -> Any:
    if hasattr(thing, "get_config"):
        config = {k: v for k, v in thing.get_config().items() if k not in ("name", "learning_rate")}
        return [type(thing).__name__, json.loads(json.dumps(config, default=str))]
    return thing if isinstance(thing, str) else getattr(thing, "__qualname__", type(thing).__name__)


def _describe_data(
    name: str, dataset: tf.data.Dataset[Any] | None, source: PhotoSource | None
) -> dict[str, Any]:
    if source is not None:
        return {f"{name}.{key}": value for key, value in source.settings().items()}
    return {name: None if dataset is None else str(dataset.element_spec)}


def _describe_model(model: keras.Model) -> str:
    """Return a digest of the architecture, whatever numbers Keras gave to its layers' names."""
    named = {"name", "inbound_nodes", "input_layers", "output_layers", "build_config"}

    def without_names(part: Any) -> Any:
        if isinstance(part, dict):
            return {k: without_names(v) for k, v in part.items() if k not in named}
        return [without_names(v) for v in part] if isinstance(part, list | tuple) else part

    content = [without_names(model.get_config()), [list(v.shape) for v in model.weights]]
    digest = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:16]
    return f"{model.count_params()} parameters with digest {digest}"


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError) as error:
        raise CheckpointError(
            f"{path} is damaged, so that its checkpoints' settings are unknown: {error}; give "
            "another run_dir, or resume=False (--fresh) to start anew in this one"
        ) from None
    now = json.loads(json.dumps(settings))
    differing = [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"run_dir {path.parent} belongs to another configuration: {'; '.join(differing)}; "
            "give another run_dir, or resume=False (--fresh) to start anew in this one"
        )


def _csv(rows: Sequence[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_events(writer: Any, row: dict[str, float]) -> None:
    # What tf.summary.scalar does, without the package "tensorboard" that it needs.
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    )
    with writer.as_default():
        for name, value in row.items():
            tf.summary.write(name, tf.constant(value, tf.float32), int(row["epoch"]), metadata)
        writer.flush()


class _Display:
    """One line on standard error, redrawn on a terminal; elsewhere one line for each epoch."""

    def __init__(self, epochs: int, steps: int, *, shown: bool) -> None:
        self._epochs, self._steps, self._shown = epochs, steps, shown
        self._redrawn = shown and sys.stderr.isatty()
        self._start, self._epoch = 0.0, 0

    def resume(self, done: int, folder: Path | None) -> None:
        if self._shown:
            sys.stderr.write(
                f"going on in {folder}, where {done} of {self._epochs} epochs are done\n"
            )
            sys.stderr.flush()

    def begin(self, epoch: int) -> None:
        self._start, self._epoch = time.monotonic(), epoch

    def step(self, step: int, loss: float) -> None:
        if self._redrawn:
            pace = (time.monotonic() - self._start) / (step + 1)
            left = pace * ((self._epochs - self._epoch) * self._steps - step - 1)
            sys.stderr.write(
                f"\repoch {self._epoch + 1}/{self._epochs}  step {step + 1}/{self._steps}  "
                f"loss {loss:.4f}  {pace:.2f} s a step, {left / 60:.0f} min left\x1b[K"
            )
            sys.stderr.flush()

    def end(self, row: dict[str, float]) -> None:
        if self._shown:
            took = time.monotonic() - self._start
            told = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch")
            start, end = ("\r", "\x1b[K\n") if self._redrawn else ("", "\n")
            line = f"epoch {row['epoch']}/{self._epochs}  {told}  {took:.0f} s"
            sys.stderr.write(f"{start}{line}{end}")
            sys.stderr.flush()
