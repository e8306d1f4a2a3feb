"""Augmentation: photos and their label maps varied together, by numbers drawn beforehand."""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

__all__ = ["IGNORE", "PADDING", "Augmentation", "augment"]

IGNORE = 255
"""The label of pixels that no loss and no score counts: padding and what lies beyond the photo."""

PADDING = 127
"""The grey of such pixels: what a backbone's own zero padding looks like in its input."""

DRAWS = 16
"""Random numbers set aside for each sample; more than `Augmentation.draw` takes today."""

DRAWN_SHAPES: dict[str, tuple[int, ...]] = {
    "transform": (8,),
    "colour": (3, 3),
    "offset": (),
    "sigma": (),
    "box": (4,),
}
"""What `Augmentation.draw` gives for each sample."""


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
        """Turn uniform random numbers into each sample's transform, colour matrix and so on."""
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
        # From an output pixel's index to the held photo's: centre, mirror, turn, zoom, shift.
        to_x, to_y = held_width / width, held_height / height
        cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
        a, b, d, e = mirror * cos * to_x, -sin * to_x, mirror * sin * to_y, cos * to_y
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        c = shift_x * to_x + (held_width - 1) / 2 - a * middle_x - b * middle_y
        f = shift_y * to_y + (held_height - 1) / 2 - d * middle_x - e * middle_y
        zero = np.zeros_like(a)
        transform = np.stack([a, b, c, d, e, f, zero, zero], axis=1)

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
            "transform": transform.astype(np.float32),
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


def augment(
    images: tf.Tensor,
    labels: tf.Tensor,
    drawn: dict[str, tf.Tensor],
    size: tuple[int, int],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Vary a batch of photos (uint8) and label maps as drawn; photos become float32."""
    warp = {"transforms": drawn["transform"], "output_shape": size, "fill_mode": "CONSTANT"}
    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        interpolation="BILINEAR",
        fill_value=float(PADDING),
        **warp,
    )
    labels = tf.raw_ops.ImageProjectiveTransformV3(
        images=labels[..., None], interpolation="NEAREST", fill_value=float(IGNORE), **warp
    )[..., 0]

    flat = tf.reshape(images, (-1, size[0] * size[1], 3))
    flat = tf.matmul(flat, drawn["colour"]) + drawn["offset"][:, None, None]
    images = tf.reshape(tf.clip_by_value(flat, 0.0, 255.0), (-1, *size, 3))

    chosen = tf.where(drawn["sigma"] > 0)
    images = tf.cond(
        tf.size(chosen) > 0,
        lambda: tf.tensor_scatter_nd_update(
            images,
            chosen,
            _blur(tf.gather_nd(images, chosen), tf.gather_nd(drawn["sigma"], chosen)),
        ),
        lambda: images,
    )

    top, left, bottom, right = (edge[:, None] for edge in tf.unstack(drawn["box"], axis=1))
    rows, columns = tf.range(size[0], dtype=tf.float32), tf.range(size[1], dtype=tf.float32)
    in_rows, in_columns = (
        (rows >= top) & (rows < bottom),
        (columns >= left) & (columns < right),
    )
    hidden = in_rows[:, :, None] & in_columns[:, None, :]
    outside = labels == IGNORE
    images = tf.where((hidden | outside)[..., None], float(PADDING), images)
    labels = tf.where(hidden, tf.constant(IGNORE, tf.uint8), labels)
    return images, labels


def _blur(images: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    reach = 4
    steps = tf.range(-reach, reach + 1, dtype=tf.float32)
    weights = tf.nn.softmax(-tf.square(steps) / (2 * tf.square(sigma[:, None])))
    for axis in (1, 2):
        padding = [[0, 0]] * 4
        padding[axis] = [reach, reach]
        padded = tf.pad(images, padding, "SYMMETRIC")
        length = tf.shape(images)[axis]
        images = tf.add_n(
            [
                tf.gather(padded, tf.range(k, k + length), axis=axis)
                * weights[:, k, None, None, None]
                for k in range(2 * reach + 1)
            ]
        )
    return images
