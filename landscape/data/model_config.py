"""How a network's makers prepare images: timm's configuration of a model, torchvision's of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from landscape.data.normalization import Normalization
from landscape.images.prepare import INTERPOLATIONS, Preparation


@dataclass(frozen=True)
class ModelData:
    """Preparation and normalization of a library's model, and whose word it is."""

    preparation: Preparation
    normalization: Normalization
    source: str


def model_data(
    model: nn.Module, architecture: str, arguments: Mapping[str, Any], file: str
) -> ModelData | None:
    """What the model's library says; None for any other model.

    Parameters
    ----------
    model
        The network itself: timm's carry their configuration, a stranger's factory may have made it.
    architecture, arguments
        As ``--model`` takes them; torchvision's models are known by these.
    file
        The checkpoint's name without suffix, by which torchvision's published weights are told apart.
    """
    configuration = getattr(model, "pretrained_cfg", None)
    if isinstance(configuration, Mapping) and configuration.get("mean") is not None:
        return _timm(model, configuration)
    library, _, name = architecture.partition(":")
    return _torchvision(name, arguments, file) if library == "torchvision" else None


def _timm(model: nn.Module, configuration: Mapping[str, Any]) -> ModelData | None:
    from timm.data.config import resolve_data_config

    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    channels = len(configuration["mean"])
    asked = {"input_size": (channels, *size)} if isinstance(size, tuple) and len(size) == 2 else {}
    resolve: Any = resolve_data_config
    found = resolve(asked, pretrained_cfg=dict(configuration))
    height, width = found["input_size"][1:]
    share, mode = found["crop_pct"], found["crop_mode"]
    if found["interpolation"] not in INTERPOLATIONS:
        return None
    mean, std = (tuple(map(float, found[key])) for key in ("mean", "std"))
    source = "timm's configuration of the model"
    preparation = Preparation(
        (height, width),
        (math.floor(height / share), math.floor(width / share)),
        mode if mode in ("squash", "border") else "center",
        found["interpolation"],
        tuple(round(255 * value) for value in mean) if mode == "border" else (),
        source,
    )
    return ModelData(preparation, (mean, std), source)


def _torchvision(name: str, arguments: Mapping[str, Any], file: str) -> ModelData | None:
    from torchvision import models

    published = list(models.get_model_weights(name))
    if not published:
        return None
    named = [one for one in published if one.url.rpartition("/")[2].rpartition(".")[0] == file]
    chosen = (named or [models.get_model_weights(name).DEFAULT])[0]
    transforms = chosen.transforms()
    size, resize = transforms.crop_size[0], transforms.resize_size[0]
    wanted = arguments.get("image_size", size)  # a vision transformer of another size
    source = f"torchvision's for {name} {chosen.name}"
    preparation = Preparation(
        (wanted, wanted),
        (round(resize * wanted / size),) * 2,
        "center",
        transforms.interpolation.value,
        source=source,
    )
    mean, std = (tuple(map(float, one)) for one in (transforms.mean, transforms.std))
    return ModelData(preparation, (mean, std), source)
