"""Runner of the experiments: lists them, parses their options and records their results.

An experiment is a module here with a frozen dataclass `Config`, whose fields are the command's
options, and `run(config)`, which prints its results and returns them as a dict of numbers, or None
if there is nothing to record. The first line of the module's docstring is its entry in the list.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results"
"""The committed results, each made from a clean commit."""
PACKAGES = ("jaxdl", "jax", "jaxlib", "numpy", "optax")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options that every experiment has."""

    seed: int = 0
    """Seed of initial values, data order and noise."""
    smoke: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run in seconds with little work, to test that everything runs; the numbers mean nothing."""
    results: pathlib.Path = pathlib.Path("results")
    """Results folder; results are written to a folder with the experiment's name in it."""


def names() -> list[str]:
    """Returns the names of the experiments."""
    return sorted(path.stem for path in HERE.glob("[!_]*.py"))


def main(args: Sequence[str]) -> int:
    """Lists the experiments or runs one of them; returns the exit status."""
    if not args or args[0] in ("-h", "--help"):
        print("python -m experiments NAME [--smoke] [--help]\n")
        width = max(map(len, names()))
        for name in names():
            doc = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text("utf-8"))) or ""
            print(f"  {name.ljust(width)}  {doc.splitlines()[0]}")
        return 0
    name, *options = args
    if name not in names():
        print(f"no experiment {name!r}; there are: {', '.join(names())}")
        return 2
    find_data()
    module = importlib.import_module(f"experiments.{name}")
    config = tyro.cli(
        module.Config,
        args=options,
        prog=f"python -m experiments {name}",
        description=module.__doc__,
    )
    start = time.perf_counter()
    metrics = module.run(config)
    if metrics is not None:
        path = record(name, config, metrics, time.perf_counter() - start)
        print(f"results: {path}")
    return 0


def find_data() -> None:
    """Sets JAXDL_DATA to `../shared/data` next to the checkout, unless it is set."""
    shared = HERE.parent.parent / "shared" / "data"
    if "JAXDL_DATA" not in os.environ and shared.is_dir():
        os.environ["JAXDL_DATA"] = str(shared)


def record(name: str, config: Config, metrics: dict[str, Any], seconds: float) -> pathlib.Path:
    """Writes `<results>/<name>/result.json`: the numbers and everything they depend on.

    The results folder is not recorded, so that a record does not depend on its location.

    Raises:
      ValueError: for the folder of the committed results, if files differ from the commit.
    """
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "results"}
    entry = {
        "experiment": name,
        "config": settings,
        "seed": config.seed,
        "metrics": metrics,
        "seconds": round(seconds, 2),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    } | environment()
    folder = config.results / name
    if folder.resolve().is_relative_to(RESULTS):
        require_clean(entry)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "result.json"
    # NaN is no JSON, and a result with one should fail here and not in a reader.
    path.write_text(json.dumps(entry, indent=2, allow_nan=False) + "\n", "utf-8")
    return path


def require_clean(entry: dict[str, Any]) -> None:
    """Raises ValueError for results that nobody can reproduce: of changed files or a smoke run."""
    name, commit = entry["experiment"], entry["commit"] or ""
    if entry["config"]["smoke"]:
        raise ValueError(f"{name}: this result is of a smoke run. Run it again without --smoke.")
    if not re.fullmatch("[0-9a-f]{7,40}", commit):
        raise ValueError(
            f"{name}: this result is of commit {commit!r}, and its files differed from it or are "
            "not known. A committed result must be of a clean commit. Commit first, then run it "
            "again."
        )


def environment() -> dict[str, Any]:
    """Returns the versions, the device and the commit that a result depends on."""
    import jax

    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()} | versions,
        "device": f"{jax.device_count()} x {device.device_kind}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
    }


def commit() -> str | None:
    """Returns the commit of the checkout, which ends in `-dirty` if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        # `--exclude=*` ignores tags, so that the result is always a commit.
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
