"""Model cards in the format of the Hugging Face Hub: a README.md that begins with YAML.

Mitchell et al. 2019 (arXiv 1810.03993).
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["write_model_card"]


def write_model_card(
    path: str | os.PathLike,
    name: str,
    history: Mapping[str, Sequence[float]],
    *,
    config: Mapping[str, Any],
    description: str,
    limits: str,
    license: str,
    datasets: Sequence[str] = (),
) -> pathlib.Path:
    """Writes a README.md for a folder of weights, with results from the history.

    Args:
      path: the file, or a folder for a README.md.
      name: name of the model, one line.
      history: from `fit`; the results are the values of the last epoch, without times.
      config: settings of the training, such as `{"optimizer": "sgd(0.1)", "batch_size": 100}`.
      description: intended use, Markdown.
      limits: uses that are out of scope and known failures, Markdown.
      license: an SPDX identifier such as "apache-2.0".
      datasets: names of the data sets.

    Returns:
      The path of the file.

    Raises:
      ValueError: an argument is invalid, or the history has no finite numbers.
    """
    texts = {"name": name, "description": description, "limits": limits, "license": license}
    for argument, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(
                f"write_model_card: {argument} is a {type(text).__name__}; expected a string."
            )
    if not name.strip() or len(name.splitlines()) > 1:
        raise ValueError(f"write_model_card: name is {name!r}; expected one line of text.")
    if isinstance(datasets, str):
        raise ValueError(
            f"write_model_card: datasets is {datasets!r}; expected several names: [{datasets!r}]."
        )
    if not isinstance(history, Mapping):
        raise ValueError(
            f"write_model_card: history is a {type(history).__name__}; expected the second value "
            "that fit returns: state, history = train.fit(...)."
        )
    if not isinstance(config, Mapping):
        raise ValueError(
            f"write_model_card: config is a {type(config).__name__}; expected a dict, such as "
            "{'optimizer': 'sgd(0.1)', 'batch_size': 100}."
        )
    # Times are left out, because they depend on the machine.
    results = {
        metric: _number(metric, values)
        for metric, values in history.items()
        if np.size(values) and not metric.endswith("seconds")
    }
    if not results:
        raise ValueError("write_model_card: history has no numbers; expected the history of fit.")
    epochs = max(map(len, history.values()))
    metrics = [
        {"type": metric, "name": metric, "value": value} for metric, value in results.items()
    ]
    index = {
        "name": name,
        "results": [
            {
                "task": {"type": "other"},
                "dataset": {"name": ", ".join(datasets) or "unnamed", "type": "other"},
                "metrics": metrics,
            }
        ],
    }
    front = {
        "license": license,
        "library_name": "jaxdl",
        "tags": ["jax", "safetensors"],
        "datasets": list(datasets),
        "metrics": list(results),
        "model-index": [index],
    }
    # JSON is valid YAML, and quotes any character in a name.
    head = "".join(f"{key}: {json.dumps(value, allow_nan=False)}\n" for key, value in front.items())
    rows = "".join(f"| {metric} | {value:.6g} |\n" for metric, value in results.items())
    settings = "".join(f"| {key} | {_cell(value)} |\n" for key, value in config.items())
    target = pathlib.Path(path)
    target = target / "README.md" if target.is_dir() else target
    target.write_text(
        f"---\n{head}---\n\n# {name}\n\n{description.strip()}\n\n## Limits\n\n{limits.strip()}\n\n"
        f"## Training\n\n| setting | value |\n|---|---|\n{settings}| epochs | {epochs} |\n\n"
        f"## Results\n\n| metric | after the last epoch |\n|---|---|\n{rows}",
        "utf-8",
    )
    return target


def _number(metric: str, values: Any) -> float:
    """Returns the last value of a metric."""
    value = np.asarray(values)[-1] if np.ndim(values) == 1 else values
    if not isinstance(value, np.number) or not np.isfinite(value):
        raise ValueError(
            f"write_model_card: the last value of {metric} is {value!r}; expected a finite number "
            "for each epoch of one run."
        )
    return float(value)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
