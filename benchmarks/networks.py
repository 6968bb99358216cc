"""Forty networks that people bring: is the meta-gradient the arbiter's, on which rung, and at what cost?

Ten of timm and ten of torchvision, where these are installed, and twenty that between them use every kind of layer of
torch.nn. Two inner steps on three images of 32 x 32 (64 where a network needs it), two random inits from each one's
constructor, a real batch of 8.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import own_networks
import torch
from record import write

from limbeck.engine import (
    Execution,
    Kernels,
    Learner,
    PixelConfig,
    Pixels,
    RealBatch,
    RealLoss,
    Remat,
    Unroll,
    copy_module,
)
from limbeck.errors import LimbeckError
from limbeck.models import check, draw, refuse_unsupported
from limbeck.models.origin import Origin, with_origin
from limbeck.models.prepare import prepare, settle

CLASSES = own_networks.CLASSES
LIMIT = 1e-3
TIMM = ("resnet18", "resnetv2_50", "efficientnet_b0", "mobilenetv3_small_100", "convnext_atto", "vit_tiny_patch16_224",
        "deit_tiny_patch16_224", "mixer_s32_224", "regnetx_002", "densenet121")  # fmt: skip
TORCHVISION = ("resnet18", "vgg11_bn", "alexnet", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5",
               "efficientnet_b0", "convnext_tiny", "swin_t", "googlenet")  # fmt: skip


def origins() -> Iterator[tuple[str, int, Origin | None]]:
    """Library and name, the size of images, and what constructs it; None where the library is not there."""
    for name in own_networks.NETWORKS:
        yield f"own: {name}", 32, Origin(lambda name=name: own_networks.make(name))  # type: ignore[misc]
    for library, names in (("timm", TIMM), ("torchvision.models", TORCHVISION)):
        try:
            module = importlib.import_module(library)
        except ImportError:
            module = None
        for name in names:
            size = 64
            options: dict[str, Any] = {"num_classes": CLASSES}
            if library == "timm":
                options |= {"img_size": size} if "patch" in name or "mixer" in name else {}
            if name == "googlenet":
                options |= {"aux_logits": False, "init_weights": True}
            function = None if module is None else getattr(module, "create_model" if library == "timm" else name)
            head = (name,) if library == "timm" else ()
            origin = None if function is None else Origin(lambda f=function, h=head, o=options: f(*h, **o))  # type: ignore[misc]
            yield f"{library}: {name}", size, origin


def measure(size: int, origin: Origin) -> dict[str, Any]:
    """The row of a network."""
    shape = (3, size, size)
    module = with_origin(prepare(settle(origin.make(0), shape), shape), origin)
    refuse_unsupported(module)
    check(module, shape, CLASSES)
    learner = Learner.of(module)
    rng = torch.Generator().manual_seed(0)
    images, real_x = torch.randn(2, CLASSES, *shape, generator=rng), torch.randn(8, *shape, generator=rng)
    weights = draw(module, "auto", 2, rng)
    real_y = torch.arange(8) % CLASSES
    seconds, grads = [], {}
    for dtype in (torch.float32, torch.float64):
        exact = dataclasses.replace(learner, module=copy_module(learner.training_module).to(dtype))
        source = Pixels(PixelConfig(steps=2, epochs=1), CLASSES, images.to(dtype))
        params = {name: value.to(dtype) for name, value in source.parameters().items()}
        start_weights = {name: value.to(dtype) for name, value in weights.items()}
        kernels = Kernels(exact, RealLoss(), Execution(chunk=2))
        if dtype == torch.float32:
            used = kernels
        ways = (Remat(), Remat(), Unroll()) if dtype == torch.float32 else (Remat(), Unroll())
        for adjoint in ways:
            start = time.perf_counter()
            result = adjoint.meta_gradient(
                kernels, source, params, kernels.init(start_weights), RealBatch(real_x.to(dtype), real_y)
            )
            if dtype == torch.float32:
                seconds.append(time.perf_counter() - start)
            grads[type(adjoint).__name__] = result.grads["images"]
        off = float((grads["Remat"] - grads["Unroll"]).norm() / grads["Unroll"].norm())
        if off < LIMIT or dtype == torch.float64:
            break
    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "rung": used.rung,
        "mode": used.mode,
        "off": off,
        "dtype": str(dtype).removeprefix("torch."),
        "verdict": "right" if off < LIMIT else "WRONG",
        "first": round(seconds[0], 2),
        "seconds": round(seconds[1], 3),
        "unroll": round(seconds[2], 3),
    }


def main() -> None:
    rows = []
    for name, size, origin in origins():
        row: dict[str, Any] = {"network": name}
        if origin is None:
            row["verdict"] = "not measured (not installed)"
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    row |= measure(size, origin)
                except LimbeckError as error:
                    row["verdict"] = f"refused: {error}"
        rows.append(row)
        print(row, flush=True)
    columns = ["network", "parameters", "rung", "mode", "off", "dtype", "verdict", "first", "seconds", "unroll"]
    write(
        "networks",
        title="Forty networks: one meta-gradient against the arbiter's",
        order=33,
        command="python benchmarks/networks.py",
        columns=columns,
        rows=[{column: row.get(column) for column in columns} for row in rows],
        notes=[
            "Seed 0, n = 2 random inits, two steps of 3 images, a real batch of 8; own networks at 32 x 32 pixels, the "
            "others at 64.",
            "off: of the images' gradient to that of Unroll, relative to its norm, in float32, or where rounding alone "
            "is more than that (batch normalisation over three images), in float64.",
            "Seconds: one meta-gradient by Remat, the first one with trying out the rungs, and one by Unroll.",
            "timm 1.0 and torchvision 0.28, whose compiled operators no network here needs.",
            "GPU: not measured.",
        ],
    )


if __name__ == "__main__":
    assert Path("benchmarks").is_dir(), "run it from the project's root"
    main()
