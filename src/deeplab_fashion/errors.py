"""The exceptions of deeplab-fashion.

Every one is also a built-in ``ValueError`` or ``RuntimeError``, so code that knows nothing of
this package can catch it; ``DeepLabFashionError`` catches them all.
"""

__all__ = [
    "AnnotationError",
    "CheckpointError",
    "DeepLabFashionError",
    "ExportError",
    "ImageError",
    "RleFormatError",
    "RleTypeError",
    "TaxonomyError",
    "TrainingError",
]


class DeepLabFashionError(Exception):
    """The base of this package's own exceptions."""


class RleFormatError(DeepLabFashionError, ValueError):
    """A run-length mask or polygon breaks its format; the message says which run and which rule."""


class RleTypeError(RleFormatError, TypeError):
    """What stands for a run-length mask, its size or its runs is of the wrong type."""


class TaxonomyError(DeepLabFashionError, ValueError):
    """A category is unknown or assigned twice, or a taxonomy's file breaks its format."""


class AnnotationError(DeepLabFashionError, ValueError):
    """An annotation file breaks its format; the message names the file, the row and the image."""


class ImageError(DeepLabFashionError, ValueError):
    """A photo is missing, unreadable, too large, or not of the size its annotation states."""


class CheckpointError(DeepLabFashionError, ValueError):
    """A model file or run directory is damaged, or belongs to another configuration."""


class TrainingError(DeepLabFashionError, RuntimeError):
    """Training cannot go on, for instance because the loss is not a number."""


class ExportError(DeepLabFashionError, RuntimeError):
    """An exported file does not give the model's own result."""
