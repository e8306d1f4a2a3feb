"""The report at the end of a training: one HTML file that needs no other."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion import plotting, scores
from deeplab_fashion._files import replacing
from deeplab_fashion.data import IGNORE, PhotoSource
from deeplab_fashion.models import logits_of

__all__ = ["write_report"]

_SHOWN = 4  # best and worst photos, each
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ccc;"
    "text-align:right}td:first-child,th:first-child{text-align:left}"
    "figure{display:inline-block;margin:.5em}figure.photos img{max-width:14em;margin-right:.4em}"
)


def write_report(
    path: Path,
    *,
    history: Mapping[str, Sequence[float]],
    confusion: NDArray[np.int64] | None,
    class_names: Sequence[str],
    settings: Mapping[str, Any],
    best_epoch: int,
    model: keras.Model,
    source: PhotoSource | None,
) -> None:
    """Write curves, scores of each class, confusion matrix, best and worst photos, settings."""
    parts = [f"<h1>Training report</h1><p>Best epoch: {best_epoch} of {len(history['epoch'])}.</p>"]
    for title, names in (
        ("Loss", ("loss", "val_loss")),
        ("Validation scores", ("val_mean_iou", "val_mean_f1", "val_pixel_accuracy")),
        ("Learning rate", ("learning_rate",)),
    ):
        series = {name: list(history[name]) for name in names if name in history}
        if any(np.isfinite(values).any() for values in series.values()):
            parts.append(plotting.curves(series, title=title))
    if confusion is not None:
        parts.append(_score_table(confusion, class_names))
        matrix = plotting.confusion_matrix_image(confusion, class_names)
        parts.append(f"<h2>Confusion matrix</h2>{_figure([matrix], 'rows are truth')}")
    if source is not None:
        parts.append(_photos(model, source, class_names))
    listed = html.escape(json.dumps(settings, indent=1))
    parts.append(f"<h2>Settings</h2><pre>{listed}</pre>")
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Training report</title>"
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    )
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def _score_table(confusion: NDArray[np.int64], class_names: Sequence[str]) -> str:
    columns = {
        "IoU": scores.iou_per_class(confusion),
        "F1": scores.f1_per_class(confusion),
        "precision": scores.precision_per_class(confusion),
        "recall": scores.recall_per_class(confusion),
    }
    pixels = confusion.sum(axis=1)
    head = "".join(f"<th>{name}</th>" for name in ("class", *columns, "true pixels"))
    rows = [
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{column[i]:.4f}</td>" for column in columns.values())
        + f"<td>{pixels[i]}</td></tr>"
        for i, name in enumerate(class_names)
    ]
    means = f"<td>{scores.mean_iou(confusion):.4f}</td><td>{scores.mean_f1(confusion):.4f}</td>"
    rows.append(f"<tr><td>mean</td>{means}<td></td><td></td><td>{pixels.sum()}</td></tr>")
    return f"<h2>Scores</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _photos(model: keras.Model, source: PhotoSource, class_names: Sequence[str]) -> str:
    @tf.function
    def predict(image: tf.Tensor) -> tf.Tensor:
        logits = logits_of(model(tf.cast(image, tf.float32)[None], training=False))
        return tf.argmax(logits[0], axis=-1, output_type=tf.int32)

    measured = []
    for index in range(len(source.image_ids)):
        image, truth = source.read(index)
        counts = scores.confusion_matrix(
            truth, predict(tf.constant(image)).numpy(), len(class_names), ignore_index=IGNORE
        )
        measured.append((float(scores.mean_iou(counts)), index))
    ranked = sorted(item for item in measured if np.isfinite(item[0]))
    best = ranked[::-1][:_SHOWN]
    worst = [item for item in ranked[:_SHOWN] if item not in best]
    parts = []
    for title, chosen in (("Best photos", best), ("Worst photos", worst)):
        parts.append(f"<h2>{title}</h2>")
        for score, index in chosen:
            image, truth = source.read(index)
            labels = predict(tf.constant(image)).numpy()
            pictures = [plotting.overlay(image, part, class_names) for part in (truth, labels)]
            caption = f"{source.image_ids[index]}: truth and prediction, mean IoU {score:.3f}"
            parts.append(_figure(pictures, caption, kind="photos"))
    return "".join(parts)


def _figure(images: Sequence[NDArray[np.uint8]], caption: str, *, kind: str = "") -> str:
    text = html.escape(caption)
    pictures = ""
    for image in images:
        data = base64.b64encode(plotting.png_bytes(image)).decode()
        pictures += f'<img src="data:image/png;base64,{data}" alt="{text}">'
    return f'<figure class="{kind}">{pictures}<figcaption>{text}</figcaption></figure>'
