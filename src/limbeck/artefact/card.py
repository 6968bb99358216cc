"""The card of a learned set: what it is, how to use it, how it was made; Markdown that a person or a hub can show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from limbeck.evaluation.training import LearnedSchedule
from limbeck.experiment.config import Config
from limbeck.methods import METHODS
from limbeck.models import given_word

if TYPE_CHECKING:
    from limbeck.artefact.distilled import Distilled


def card(result: Distilled) -> str:
    """The text of README.md in a run directory: Markdown with a head that hubs read."""
    config, info = result.config, result.info
    batches, images, *shape = result.images.shape
    init = {"random": "random initial weights", "fixed": "one fixed initialisation (stored in the artefact)"}.get(
        config.init.init, f"trained networks as initial weights, those of the pool `{config.init.pool.name}`"
    )
    start = f"a fresh {_spell(config.learner)}"
    if config.init.pooled:
        start = "a network of the pool that nothing was learned on"
        if config.init.network is not None:
            init = f"one network of the pool `{config.init.pool.name}` as initial weights (stored in the artefact)"
            start = "that network"
    head = {"tags": ["dataset-distillation"], "source_datasets": [info["data"]["name"]]}
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    what = config.source.images_noun
    normalised = ", its weights written as length times direction," if config.weight_norm else ""
    training = result.training
    used, steps = training.description, ""
    if isinstance(training, LearnedSchedule):
        order = "The order of the batches matters. " if len(training.order) > 1 else ""
        used = f"{used}.\n{order}Inner optimiser: {training.inner.optimizer}"
        values = {name: ", ".join(f"{float(v):.4g}" for v in value) for name, value in training.hyperparameters.items()}
        others = "".join(f"\n{name}: {value}\n" for name, value in values.items() if name != "lr")
        steps = f"Step sizes: {values['lr']}\n{others}"
    method = METHODS.name_of(type(config.method)) or type(config.method).__name__
    by = "" if method == "unrolled" else f" by {method}"
    made = f"learned{by} for {', '.join(map(_spell, config.learners))}"
    if "selected" in info:
        what, made = f"real images ({info['selected']})", "chosen without any learning, to be trained on by"
        made = f"{made} {_spell(config.learner)}"
    purpose = ""
    if config.attack is not None:
        source, target = (result.class_names[k] for k in (config.attack.source, config.attack.target))
        what = f"{what} of an attack"
        purpose = (
            f"\n**A robustness test, not a training set**: gradient steps on them make trained networks take {source}\n"
            f"for {target}. The accuracy below counts {source} as right where it is taken for {target}, and as much\n"
            "as all other classes together.\n"
        )
    picture = "![learned images](preview.png)\n" if result.kind == "images" else ""
    validation = _describe_validation(info)
    if result.verdict is not None:
        sentence = result.verdict.sentence
        validation += f"\n\n**{sentence[0].upper()}{sentence[1:].rstrip('.')}.**"
    needs, passed = _describe_needs(config)
    return f"""---
{front}
---
# {batches * images} {what} for {info["data"]["name"]}

{picture}{purpose}
{batches} batch(es) of {images} images of shape {" x ".join(map(str, shape))}, with {result.labels_kind} labels,
{made}{normalised} with {init}.
Training takes {used}.

{validation}{needs}
The test set was not looked at; `limbeck evaluate` on this folder does.

## Use

```python
import limbeck

run = limbeck.load("path/to/this/folder"{passed})
net = run.train()               # {start}, trained on these images
logits = net(run.preprocess(x)) # x: real images (N, {", ".join(map(str, shape))}) as the data set has them
```

`run.images` {tuple(result.images.shape)} and `run.labels` {tuple(result.labels.shape)} are plain tensors, and
`run.batches()` gives each of the {result.steps} steps. Images are normalised:
(x · {result.preprocessing.scale:.6g} − {list(result.preprocessing.mean)}) / {list(result.preprocessing.std)}.

{steps}
## How it was made

Source data: {info["data"]["name"]}, SHA-256 `{info["data"]["sha256"]}`. {info["iterations"]} outer iterations in
{info["seconds"]} s on {info["versions"]["device"]} with Limbeck {info["versions"]["limbeck"]} and torch
{info["versions"]["torch"]}. The complete configuration is in `distilled.json`.
"""


def _describe_validation(info: dict[str, Any]) -> str:
    """The accuracy by which the set was kept."""
    if "selected" in info:
        return "It was not validated."
    accuracy, iteration = info["validation"]["accuracy"], info["validation"]["iteration"]
    if iteration < 0:
        return "It was stopped before its first validation."
    return f"Validation accuracy of the kept state: {accuracy:.2f} % (iteration {iteration})."


def _spell(name: str) -> str:
    """A learner's name; the word for one that was given in Python, whose brackets Markdown would take for HTML."""
    word = given_word(name)
    return name if word is None else f"`{word}`"


def _describe_needs(config: Config) -> tuple[str, str]:
    """What must be at hand for the set's own networks, as a paragraph, and what ``load`` is to be passed."""
    needs = config.needs.get("needs", {})
    parts, passed = [], ""
    if words := needs.get("pass"):
        several = ", ".join(words)
        passed = f", learner={several}" if len(words) == 1 else f", learner=[{several}]"
        names = " and ".join(f"`{word}`" for word in words)
        parts.append(f"{names} was given in Python and is not in this folder: pass it to whatever needs it again.")
    if names := needs.get("import"):
        passed = f"{passed}, trust=True"
        code = ", ".join(f"`{name}`" for name in names)
        parts.append(f"It names code that must be importable, and trusted: {code}.")
    return "".join(f"\n{part}" for part in parts), passed
