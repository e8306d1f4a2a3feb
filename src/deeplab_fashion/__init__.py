"""Clothing segmentation with DeepLabV3+: fashion annotations in, masks of any photo out.

Importing this package loads neither TensorFlow nor scikit-image: each name below loads what it
needs when it is first touched.
"""

import importlib
from typing import TYPE_CHECKING, Any

from deeplab_fashion._collector import uncollected

if TYPE_CHECKING:
    from deeplab_fashion import (
        annotations,
        backbones,
        data,
        errors,
        export,
        layers,
        losses,
        metrics,
        plotting,
        rle,
        samples,
        scores,
        taxonomy,
        training,
    )
    from deeplab_fashion.inference import Segmentation, Segmenter
    from deeplab_fashion.models import DeepLabV3, DeepLabV3Plus
    from deeplab_fashion.training import TrainingResult, fit

__version__ = "0.1.0"

__all__ = [
    "DeepLabV3",
    "DeepLabV3Plus",
    "Segmentation",
    "Segmenter",
    "TrainingResult",
    "__version__",
    "annotations",
    "backbones",
    "data",
    "errors",
    "export",
    "fit",
    "layers",
    "losses",
    "metrics",
    "plotting",
    "rle",
    "samples",
    "scores",
    "taxonomy",
    "training",
]

_HOME_OF = {
    "DeepLabV3": "models",
    "DeepLabV3Plus": "models",
    "Segmentation": "inference",
    "Segmenter": "inference",
    "TrainingResult": "training",
    "fit": "training",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with uncollected():
        module = importlib.import_module(f"{__name__}.{_HOME_OF.get(name, name)}")
    return getattr(module, name) if name in _HOME_OF else module


def __dir__() -> list[str]:
    return sorted(__all__)
