"""Pictures of labels and scores: overlays with a legend, confusion matrices, training curves.

Pictures are plain arrays, uint8 of shape (height, width, 3), which every image library writes;
curves are SVG text. The colours are those of Okabe and Ito, which colour-blind readers can tell
apart.
"""

import colorsys
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["colorize", "confusion_matrix_image", "curves", "overlay", "palette", "png_bytes"]

_OKABE_ITO = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (213, 94, 0),
    (240, 228, 66),
    (0, 114, 178),
    (204, 121, 167),
)
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_LARGEST_LABEL = 255
_STRIP = 2**18  # pixels that are tinted at once


def palette(num_classes: int) -> NDArray[np.uint8]:
    """Return one colour for each class; background, class 0, is black.

    The first eight are the palette of Okabe and Ito; beyond them hues are spread by the golden
    ratio, so a class keeps its colour whatever the number of classes.

    Args:
        num_classes: How many colours, 1 to 256.

    Returns:
        RGB in [0, 255], shape (num_classes, 3).

    Raises:
        ValueError: If ``num_classes`` lies outside 1 to 256.

    Example:
        >>> palette(3).tolist()
        [[0, 0, 0], [230, 159, 0], [86, 180, 233]]

    References:
        Okabe and Ito, Color Universal Design, 2008. Vermilion stands before yellow here, so that
        the classes of fashion that touch most often differ most.
    """
    if not 1 <= num_classes <= _LARGEST_LABEL + 1:
        raise ValueError(f"num_classes must be 1 to 256, got {num_classes}")
    colours = list(_OKABE_ITO[:num_classes])
    for index in range(len(colours), num_classes):
        hue = (index * _GOLDEN_RATIO) % 1
        rgb = colorsys.hsv_to_rgb(hue, 0.55 + 0.35 * (index % 2), 0.95 - 0.3 * (index % 3) / 2)
        colours.append((round(rgb[0] * 255), round(rgb[1] * 255), round(rgb[2] * 255)))
    return np.array(colours, np.uint8)


def colorize(labels: NDArray[np.integer[Any]], num_classes: int) -> NDArray[np.uint8]:
    """Return a label map as a picture in the colours of ``palette``.

    Args:
        labels: Labels in [0, num_classes), shape (height, width). Any other label, such as an
            ignored 255, is painted mid grey.
        num_classes: The number of classes, 1 to 256.

    Returns:
        RGB, shape (height, width, 3).

    Raises:
        ValueError: If ``labels`` is not a two-dimensional integer array.

    Example:
        >>> colorize(np.array([[0, 1, 255]]), 2).tolist()
        [[[0, 0, 0], [230, 159, 0], [128, 128, 128]]]
    """
    labels = _checked_labels(labels)
    known = (labels >= 0) & (labels < num_classes)
    colours = np.append(palette(num_classes), np.full((1, 3), 128, np.uint8), axis=0)
    return colours[np.where(known, labels, num_classes)]


def overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    *,
    alpha: float = 0.5,
    legend: bool = True,
) -> NDArray[np.uint8]:
    """Return a photo with its classes tinted, outlined and named in a legend.

    Background stays as it is. The legend names the classes that are present and takes the corner
    with the fewest labelled pixels; a photo too small to hold it gets none.

    Args:
        image: RGB photo, uint8, shape (height, width, 3).
        labels: Labels, shape (height, width); 0 and labels without a name, such as an ignored
            255, are left untinted.
        class_names: The name of each label, background first.
        alpha: Share of the colour in a tinted pixel, 0 to 1.
        legend: Whether to draw the legend.

    Returns:
        RGB, of the photo's own shape.

    Raises:
        ValueError: If the shapes differ or ``alpha`` lies outside 0 to 1.

    Example:
        >>> photo = np.full((2, 2, 3), 100, np.uint8)
        >>> overlay(photo, np.array([[0, 0], [0, 1]]), ("background", "coat"), alpha=1)[1, 1]
        array([230, 159,   0], dtype=uint8)
    """
    labels = _checked_labels(labels)
    if image.dtype != np.uint8 or image.shape != (*labels.shape, 3):
        raise ValueError(
            f"image must be uint8 of shape {(*labels.shape, 3)} like the labels, "
            f"got {image.dtype} of shape {image.shape}"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be 0 to 1, got {alpha}")
    count = len(class_names)
    colours = palette(count)
    grey = np.arange(256)
    tint = np.broadcast_to(grey, (count + 1, 3, 256)).astype(np.uint8)
    tint[1:count] = np.rint(grey * (1 - alpha) + colours[1:, :, None] * alpha)
    known = (labels > 0) & (labels < count)
    edge = _inner_edge(labels, max(1, round(max(labels.shape) / 400)))
    result = np.empty_like(image)
    present = np.zeros(count + 1, np.bool_)
    step = max(1, _STRIP // max(1, labels.shape[1]))
    for top in range(0, labels.shape[0], step):
        strip = slice(top, top + step)
        index = np.where(known[strip], labels[strip], count)
        for channel in range(3):
            result[strip, :, channel] = tint[index, channel, image[strip, :, channel]]
        lined = edge[strip] & known[strip]
        result[strip][lined] = colours[index[lined]]
        present[index] = True
    if legend:
        entries = [(class_names[i], colours[i]) for i in np.flatnonzero(present[:count]).tolist()]
        _draw_legend(result, known, entries)
    return result


def confusion_matrix_image(
    confusion: NDArray[np.integer[Any]], class_names: Sequence[str]
) -> NDArray[np.uint8]:
    """Return a confusion matrix as a picture: rows are truth, each cell the share of its row.

    Args:
        confusion: Counts, shape (classes, classes), rows are truth.
        class_names: The name of each class.

    Returns:
        RGB, shape (height, width, 3). A class that is never true has an empty row.

    Raises:
        ValueError: If the counts do not fit the names.

    Example:
        >>> confusion_matrix_image(np.array([[3, 1], [0, 2]]), ("skirt", "coat")).ndim
        3
    """
    from PIL import Image, ImageDraw, ImageFont

    count = len(class_names)
    if confusion.shape != (count, count) or count == 0:
        raise ValueError(
            f"confusion must have one row and column for each of {count} class names, "
            f"got shape {confusion.shape}"
        )
    totals = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    font = ImageFont.load_default(13)
    cell, gap = 56, 10
    name_width = math.ceil(max(font.getlength(name) for name in class_names))
    left, top = name_width + 2 * gap + 18, 30
    canvas = Image.new(
        "RGB", (left + count * cell + gap, top + count * cell + name_width + 2 * gap), "white"
    )
    draw = ImageDraw.Draw(canvas)
    draw.text((left, gap // 2), "share of each true class, %", "black", font)
    for row in range(count):
        y = top + row * cell
        draw.text((left - gap, y + cell / 2), class_names[row], "black", font, anchor="rm")
        for column in range(count):
            x, value = left + column * cell, float(share[row, column])
            shade = tuple(round(255 + (low - 255) * value) for low in (0, 68, 120))
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), shade)
            if totals[row, 0]:
                ink = "white" if value > 0.5 else "black"
                text = f"{100 * value:.1f}"
                draw.text((x + cell / 2 - 1, y + cell / 2 - 1), text, ink, font, anchor="mm")
    below = top + count * cell + gap
    for column, name in enumerate(class_names):
        _draw_upright(canvas, name, font, (left + column * cell + cell // 2, below), name_width)
    _draw_upright(canvas, "true class", font, (12, top + count * cell // 2 - 34), 68)
    return np.array(canvas)


def curves(
    series: Mapping[str, Sequence[float]],
    *,
    title: str = "",
    x_label: str = "epoch",
    y_label: str = "",
    size: tuple[int, int] = (280, 480),
) -> str:
    """Return line plots, one for each series, as the text of an SVG picture.

    Args:
        series: Values of each line at 1, 2, 3, ...; a value that is not finite leaves a gap.
        title: Text above the plot.
        x_label: Text below the horizontal axis.
        y_label: Text beside the vertical axis.
        size: Height and width in pixels, at least (120, 200).

    Returns:
        An ``<svg>`` element, to stand in a page or in a file of its own.

    Raises:
        ValueError: If no series holds a finite value, or ``size`` is too small.

    Example:
        >>> curves({"loss": [2.0, 1.0, 0.5]}, title="Loss").count("<polyline")
        1
    """
    height, width = size
    if height < 120 or width < 200:
        raise ValueError(f"size must be at least (120, 200), got {size}")
    finite = [float(v) for values in series.values() for v in values if math.isfinite(v)]
    if not finite:
        raise ValueError(f"series must hold a finite value, got {dict(series)!r}")
    ticks = _ticks(min(finite), max(finite))
    low, high = min(ticks[0], *finite), max(ticks[-1], *finite)
    steps = max(len(values) for values in series.values())
    left, right, top, bottom = 62, width - 14, 34 + 16 * math.ceil(len(series) / 3), height - 44

    def x_of(step: float) -> float:
        return left + (right - left) * ((step - 1) / (steps - 1) if steps > 1 else 0.5)

    def y_of(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11" role="img" '
        f'aria-label="{escape(title or y_label or "curves")}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="18" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in ticks:
        y = y_of(tick)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for step in sorted({round(1 + (steps - 1) * i / 5) for i in range(6)}):
        parts.append(
            f'<text x="{x_of(step):.1f}" y="{bottom + 16}" text-anchor="middle">{step}</text>'
        )
    middle = (left + right) / 2
    parts.append(
        f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(14 {(top + bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    colours = palette(len(series) + 1)[1:]
    for index, (name, values) in enumerate(series.items()):
        colour = "#{:02x}{:02x}{:02x}".format(*colours[index].tolist())
        key_x, key_y = left + (right - left) / 3 * (index % 3), 30 + 16 * (index // 3)
        parts.append(f'<rect x="{key_x:.1f}" y="{key_y}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{key_x + 19:.1f}" y="{key_y + 6}">{escape(name)}</text>')
        for run in _finite_runs(values):
            if len(run) == 1:
                step, value = run[0]
                parts.append(
                    f'<circle cx="{x_of(step):.1f}" cy="{y_of(value):.1f}" r="3" fill="{colour}"/>'
                )
            else:
                points = " ".join(f"{x_of(s):.1f},{y_of(v):.1f}" for s, v in run)
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                )
    return "".join([*parts, "</svg>"])


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """Return a picture as the bytes of a PNG file.

    Args:
        image: uint8; grey (height, width), RGB (height, width, 3) or RGBA (height, width, 4).

    Returns:
        The PNG file's content.

    Example:
        >>> png_bytes(np.zeros((2, 2, 3), np.uint8))[1:4]
        b'PNG'
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _checked_labels(labels: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(
            "labels must be a two-dimensional integer array, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    return labels


def _inner_edge(labels: NDArray[np.integer[Any]], width: int) -> NDArray[np.bool_]:
    edge = np.zeros(labels.shape, np.bool_)
    for step in range(1, width + 1):
        down = labels[step:] != labels[:-step]
        edge[step:] |= down
        edge[:-step] |= down
        across = labels[:, step:] != labels[:, :-step]
        edge[:, step:] |= across
        edge[:, :-step] |= across
    return edge


def _draw_legend(
    picture: NDArray[np.uint8],
    tinted: NDArray[np.bool_],
    entries: Sequence[tuple[str, NDArray[np.uint8]]],
) -> None:
    from PIL import Image, ImageDraw, ImageFont

    height, width = tinted.shape
    text_size = max(10, round(min(height, width) / 32))
    font = ImageFont.load_default(text_size)
    line, pad = round(text_size * 1.5), text_size // 2
    if not entries:
        return
    box_width = math.ceil(max(font.getlength(name) for name, _ in entries)) + line + 2 * pad
    box_height = line * len(entries) + pad
    if box_width > 0.6 * width or box_height > 0.6 * height:
        return
    corners = [
        (top, left)
        for top in (pad, height - box_height - pad)
        for left in (pad, width - box_width - pad)
    ]
    top, left = min(
        corners, key=lambda c: int(tinted[c[0] : c[0] + box_height, c[1] : c[1] + box_width].sum())
    )
    box = Image.new("RGB", (box_width, box_height), (28, 28, 28))
    draw = ImageDraw.Draw(box)
    for index, (name, colour) in enumerate(entries):
        y = pad // 2 + index * line
        swatch = (pad, y + line // 5, pad + text_size, y + line // 5 + text_size)
        draw.rectangle(swatch, tuple(colour.tolist()))
        draw.text((pad + line, y + line / 2), name, "white", font, anchor="lm")
    picture[top : top + box_height, left : left + box_width] = np.array(box)


def _draw_upright(canvas: Any, text: str, font: Any, place: tuple[int, int], length: int) -> None:
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (length, 18), "white")
    ImageDraw.Draw(strip).text((length, 9), text, "black", font, anchor="rm")
    canvas.paste(strip.rotate(90, expand=True), (place[0] - 9, place[1]))


def _ticks(low: float, high: float) -> list[float]:
    spread = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(spread / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if spread / (factor * step) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        last += 1
    return [round(index * step, 12) for index in range(first, last + 1)]


def _finite_runs(values: Sequence[float]) -> list[list[tuple[int, float]]]:
    runs: list[list[tuple[int, float]]] = [[]]
    for step, value in enumerate(values, start=1):
        if math.isfinite(value):
            runs[-1].append((step, float(value)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
