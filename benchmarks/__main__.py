"""`python -m benchmarks [NAME] [--json FILE]`: prints a table and writes its rows."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import pathlib
import sys
from typing import Annotated, Any

try:
    import tyro
except ModuleNotFoundError:  # `gpu` reads its options without it, on machines that lack it
    tyro: Any = None

HERE = pathlib.Path(__file__).parent
FEWEST = 5


@dataclasses.dataclass(frozen=True)
class Config:
    """Options that every benchmark has."""

    json: pathlib.Path | None = None
    """File for the rows, the versions and the machine; a ratio is ours / peer."""
    rounds: int = 9
    """Timed turns of each library, at least 5; medians and quartiles are reported."""
    turn: float = 0.5
    """Least seconds of a turn; a call that lasts longer is called once."""
    only: str = ""
    """Only works whose name contains this."""
    smoke: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Little work, one round of one call, to check that everything runs; ratios mean nothing."""

    @property
    def few_rounds(self) -> int:
        """Rounds of work whose calls last many seconds."""
        return min(self.rounds, FEWEST)


def main(args: list[str]) -> int:
    """Lists the benchmarks, or runs the one named; returns the exit status."""
    names = sorted(path.stem for path in HERE.glob("[!_]*.py"))
    if not args or args[0] in ("-h", "--help"):
        print("python -m benchmarks NAME [--json FILE] [--help]\n")
        for name in names:
            doc = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text("utf-8"))) or ""
            print(f"  {name}  {doc.splitlines()[0]}")
        return 0
    name, *options = args
    if name not in names:
        print(f"no benchmark {name!r}; there are: {', '.join(names)}")
        return 2
    module = importlib.import_module(f"benchmarks.{name}")
    if hasattr(module, "main"):
        return module.main(options)
    prog = f"python -m benchmarks {name}"
    config = tyro.cli(Config, args=options, prog=prog, description=module.__doc__)
    if config.smoke:
        config = dataclasses.replace(config, rounds=1, turn=0.0)
    elif config.rounds < FEWEST:
        print(f"--rounds {config.rounds}: a median needs at least {FEWEST} rounds, or --smoke")
        return 2
    rows = module.run(config)
    if config.json is not None:
        from benchmarks._record import record

        entry = record(name, config.rounds, rows)
        config.json.write_text(json.dumps(entry, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
