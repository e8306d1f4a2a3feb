"""Augmentation: photos and their label maps varied together, by numbers drawn beforehand."""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

__all__ = ["DRAWS", "IGNORE", "PADDING", "Augmentation", "recolour", "warp"]

IGNORE = 255
"""The label of pixels that no loss and no score counts: padding and what lies beyond the photo."""

PADDING = 127
"""The grey of such pixels: what a backbone's own zero padding looks like in its input."""

DRAWS = 16
"""Random numbers set aside for each sample; more than `Augmentation.draw` takes today."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How photos and their label maps are varied, together, from epoch to epoch.

    Args:
        flip: The probability of a mirror image.
        scale: The smallest and largest zoom; above 1 a random crop is seen, below 1 the photo
            lies at a random place in a grey frame whose pixels are ignored.
        rotation: The largest angle to either side, in degrees.
        brightness: The largest relative change of brightness.
        contrast: The largest relative change of contrast.
        saturation: The largest relative change of saturation.
        hue: The largest turn of the colour circle to either side, in degrees.
        blur: The probability of a Gaussian blur, standard deviation 0.5 to 1.5 pixels.
        cutout: The probability that a rectangle is hidden: grey, its labels ignored.
        cutout_size: The largest side of that rectangle, as a part of the image's side.

    Raises:
        ValueError: If a probability lies outside [0, 1], or a range is empty or negative.

    Example:
        >>> Augmentation(rotation=0).flip
        0.5
    """

    flip: float = 0.5
    scale: tuple[float, float] = (0.5, 2.0)
    rotation: float = 10.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 6.0
    blur: float = 0.1
    cutout: float = 0.1
    cutout_size: float = 0.3

    def __post_init__(self) -> None:
        for name in ("flip", "blur", "cutout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability in [0, 1], got {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation", "cutout_size"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("rotation", "hue"):
            if not 0 <= getattr(self, name) <= 180:
                raise ValueError(f"{name} must lie in [0, 180] degrees, got {getattr(self, name)}")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be (low, high) with 0 < low <= high, got {self.scale}")

    def draw(
        self, random: NDArray[np.float64], size: tuple[int, int], held: tuple[int, int]
    ) -> dict[str, NDArray[np.float32]]:
        """Turn uniform random numbers into what is done to each sample."""
        draws = iter(random.T)

        def between(low: float, high: float) -> NDArray[np.float64]:
            drawn: NDArray[np.float64] = next(draws)
            return low + (high - low) * drawn

        (height, width), (held_height, held_width) = size, held
        mirror = np.where(next(draws) < self.flip, -1.0, 1.0)
        zoom = np.exp(between(math.log(self.scale[0]), math.log(self.scale[1])))
        angle = np.radians(between(-self.rotation, self.rotation))
        room = np.abs(1 - 1 / zoom) / 2
        shift_x, shift_y = room * between(-1, 1) * width, room * between(-1, 1) * height
        # From a place in the output to one in the held photo: mirror, turn, zoom, shift.
        to_x, to_y = held_width / width, held_height / height
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        a, b, d, e = mirror * cos * to_x, -sin * to_x, mirror * sin * to_y, cos * to_y
        c = (shift_x + width / 2) * to_x - a * width / 2 - b * height / 2
        f = (shift_y + height / 2) * to_y - d * width / 2 - e * height / 2
        warp = np.stack([a, b, c, d, e, f], axis=1)

        gain = 1 + between(-self.brightness, self.brightness)
        contrast = 1 + between(-self.contrast, self.contrast)
        saturation = 1 + between(-self.saturation, self.saturation)
        matrix = _colour_matrices(saturation, np.radians(between(-self.hue, self.hue)))
        matrix *= (gain * contrast)[:, None, None]
        offset = 127.5 * (1 - contrast)

        blurred = next(draws) < self.blur
        sigma = np.where(blurred, between(0.5, 1.5), 0.0)
        hidden = next(draws) < self.cutout
        sides = [next(draws) * self.cutout_size * hidden for _ in range(2)]
        starts = [next(draws) * (1 - side) for side in sides]
        box = np.stack([*starts, starts[0] + sides[0], starts[1] + sides[1]], axis=1)
        return {
            "warp": warp.astype(np.float32),
            "colour": matrix.astype(np.float32),
            "offset": offset.astype(np.float32),
            "sigma": sigma.astype(np.float32),
            "box": (box * [height, width, height, width]).astype(np.float32),
        }


def _colour_matrices(
    saturation: NDArray[np.float64], hue: NDArray[np.float64]
) -> NDArray[np.float64]:
    """RGB -> RGB matrices, shape (n, 3, 3), for row vectors: turn and stretch the colour plane."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    turn = np.zeros((len(hue), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * np.cos(hue)
    turn[:, 1, 2] = -saturation * np.sin(hue)
    turn[:, 2, 1] = saturation * np.sin(hue)
    matrices: NDArray[np.float64] = np.linalg.inv(to_yiq) @ turn @ to_yiq
    return np.swapaxes(matrices, 1, 2)


def warp(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    drawn: dict[str, NDArray[np.float32]],
    size: tuple[int, int],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Mirror, turn, zoom, crop and blur one photo, and its label map alike."""
    from PIL import Image, ImageFilter

    picture, painted = Image.fromarray(image), Image.fromarray(labels)
    how = ((size[1], size[0]), Image.Transform.AFFINE, drawn["warp"].tolist())
    picture = picture.transform(*how, Image.Resampling.BILINEAR, fillcolor=(PADDING,) * 3)
    painted = painted.transform(*how, Image.Resampling.NEAREST, fillcolor=IGNORE)
    if drawn["sigma"]:
        picture = picture.filter(ImageFilter.GaussianBlur(float(drawn["sigma"])))
    return np.asarray(picture), np.asarray(painted)


def recolour(
    images: tf.Tensor, labels: tf.Tensor, colour: tf.Tensor, offset: tf.Tensor, box: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Change the colours of a batch and hide a box of each image; images become float32."""
    height, width = images.shape[1:3]
    flat = tf.reshape(tf.cast(images, tf.float32), (tf.shape(images)[0], -1, 3))
    flat = tf.clip_by_value(tf.matmul(flat, colour) + offset[:, None, None], 0.0, 255.0)
    images = tf.reshape(flat, (-1, height, width, 3))
    top, left, bottom, right = (edge[:, None] for edge in tf.unstack(box, axis=1))
    rows, columns = tf.range(height, dtype=tf.float32), tf.range(width, dtype=tf.float32)
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    hidden = in_rows[:, :, None] & in_columns[:, None, :]
    labels = tf.where(hidden, tf.constant(IGNORE, tf.uint8), labels)
    images = tf.where(tf.expand_dims(labels == IGNORE, -1), float(PADDING), images)
    return images, labels
