"""Networks and data sets as tables call them, and those of the paper. Needs no torch."""

from __future__ import annotations

import re

from figures.style import METHOD_NAMES

_RUN = re.compile(
    r"(?P<network>.+)-(?:dense|(?P<method>[^-]+)-(?P<sparsity>[0-9.e-]+))"
    r"-(?P<optimizer>[^-]+)-seed(?P<seed>\d+)"
)

MODELS = {
    "resnet20": "ResNet-20",
    "resnet32": "ResNet-32",
    "resnet44": "ResNet-44",
    "resnet56": "ResNet-56",
    "resnet32_wide": "ResNet-32 (32-64-128)",
    "vgg19": "VGG-19",
    "resnet50": "ResNet-50",
    "torchvision-resnet34": "ResNet-34",
    "torchvision-resnet50": "ResNet-50",
    "torchvision-mobilenet_v2": "MobileNet-V2",
    "torchvision-efficientnet_b0": "EfficientNet-B0",
}
DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}
SMALL = ("resnet32_wide-cifar10", "resnet32_wide-cifar100", "vgg19-cifar10", "vgg19-cifar100")
"""Of the paper's Table 1."""
PARAMETERS = {
    # (architecture, classes): all parameters; tests/figures/test_tables.py counts them
    ("resnet20", 10): 269_722,
    ("resnet32_wide", 10): 1_860_522,
    ("resnet32_wide", 100): 1_872_132,
    ("vgg19", 10): 20_035_018,
    ("vgg19", 100): 20_081_188,
    ("torchvision-resnet34", 1000): 21_797_672,
    ("torchvision-resnet50", 1000): 25_557_032,
    ("torchvision-mobilenet_v2", 10): 2_236_682,
    ("torchvision-efficientnet_b0", 1000): 5_288_548,
}
_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
DISTRIBUTIONS = {
    # a method's own distribution over the layers; the names of runs say only another one
    "random": "erk",
    "set": "erk",
    "dsr": "uniform",
    "rigl": "erk",
    "mest_em": "uniform",
    "mest_ems": "uniform",
    "chase": "erk",
}
DISTRIBUTION_NAMES = {
    "uniform": "uniform",
    "uniform_plus": "uniform+",
    "er": "ER",
    "erk": "ERK",
    "global": "one threshold",
}


def network_name(network: str) -> str:
    """For people.

    >>> network_name("resnet32_wide-cifar100"), network_name("other-flowers")
    ('ResNet-32 (32-64-128), CIFAR-100', 'other, flowers')
    """
    model, data = split_network(network)
    return f"{MODELS.get(model, model)}, {DATA.get(data, data)}" if data else MODELS.get(model, model)


def split_network(network: str) -> tuple[str, str]:
    """Architecture and data of MODEL-DATA."""
    known = [model for model in MODELS if network.startswith(f"{model}-")]
    model = max(known, key=len) if known else network.partition("-")[0]
    return model, network[len(model) + 1 :]


def parameters_of(network: str) -> int | None:
    """All parameters of a dense network, where it is one of those known."""
    model, data = split_network(network)
    return PARAMETERS.get((model, _CLASSES.get(data, 0)))


def run_parts(name: str) -> tuple[str, str, str, str, int] | None:
    """Network, method, sparsity, optimizer and seed that a run's name holds; None for another name.

    >>> run_parts("resnet20-cifar10-rigl_uniform-0.9-s2sam-seed1")
    ('resnet20-cifar10', 'rigl_uniform', '0.9', 's2sam', 1)
    >>> run_parts("resnet20-cifar10-dense-sgd-seed0")
    ('resnet20-cifar10', 'dense', '', 'sgd', 0)
    """
    found = _RUN.fullmatch(name)
    if not found:
        return None
    try:
        float(found["sparsity"] or 0)
        seed = int(found["seed"])
    except ValueError:  # dots and dashes, or digits without end, that are no number
        return None
    return found["network"], found["method"] or "dense", found["sparsity"] or "", found["optimizer"], seed


def split_method(method: str) -> tuple[str, str]:
    """A method and its distribution over the layers; empty where it has none but its own ranking.

    >>> split_method("rigl_uniform"), split_method("mest_em"), split_method("grasp")
    (('rigl', 'uniform'), ('mest_em', 'uniform'), ('grasp', ''))
    """
    for base in METHOD_NAMES:
        rest = method.removeprefix(f"{base}_")
        if rest != method and rest in DISTRIBUTION_NAMES:
            return base, rest
    return method, DISTRIBUTIONS.get(method, "")


def method_name(method: str) -> str:
    """For people.

    >>> method_name("rigl_uniform"), method_name("mest_ems"), method_name("own")
    ('RigL, uniform', 'MEST (EM&S)', 'own')
    """
    base, distribution = split_method(method)
    name = METHOD_NAMES.get(base, base)
    return name if base == method else f"{name}, {DISTRIBUTION_NAMES[distribution]}"
