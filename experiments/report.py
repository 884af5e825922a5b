"""The lectures' claims beside what was found: a table and a page, from the committed results.

Rewrites `experiments/README.md` and, in the results folder, `report.html`: one page that fetches
nothing, in English and Chinese, in the order of a course (row A18): a set of functions, how good a
function is, and how to pick the best one. Every number and figure is made from the JSON of
`experiments/results`; with `--fresh` those of the results folder are copied there first.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import Annotated

import tyro

from experiments import _run
from experiments._claims_page import as_page
from experiments._tried import (
    OVERVIEW,
    REPOSITORY,
    STEPS,
    Tried,
    claims,
    modules,
    number,
    ours,
    overview,
    seeds,
    time,
    verdict,
    whole,
)

README = _run.HERE / "README.md"


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take over the claims' results from the results folder first; they must be of a commit."""


def run(config: Config) -> None:
    if config.fresh:
        for name, _ in modules():
            path = config.results / name / "result.json"
            if path.is_file():
                _run.require_clean(json.loads(path.read_text("utf-8")))
                shutil.copy(path, _run.RESULTS / f"{name}.json")
    tried = claims()
    config.results.mkdir(parents=True, exist_ok=True)
    page = config.results / "report.html"
    page.write_text(as_page(tried), "utf-8")
    print(f"report: {page}")
    if not config.smoke:
        README.write_text(as_markdown(tried), "utf-8")
        print(f"table: {README}")


def as_markdown(tried: list[Tried]) -> str:
    """experiments/README.md"""
    lines = [
        "# The lectures' claims, tried",
        "",
        "Written by `python -m experiments report` from the results in this folder; nothing here",
        "is typed by hand. Ours are means and deviations over the seeds, beside the lectures'.",
        "",
        "Speed-up: how many times as fast the seeds were as one program as they would be one by",
        "one, each compiled anew.",
        "",
        *(part for text in whole(tried) for part in (text, "")),
        "| experiment | " + " | ".join(f"{en} {zh}".strip() for en, zh in OVERVIEW) + " |",
        "|---" * (len(OVERVIEW) + 1) + "|",
    ]
    for one in tried:
        cells = " | ".join(english for english, _ in overview(one))
        lines.append(f"| `{one.name}` | {one.claim.english} {one.claim.chinese} | {cells} |")
    lines.append("")
    for step, (english, chinese) in STEPS.items():
        lines += [f"## {english}", f"## {chinese}", ""]
        for one in (t for t in tried if t.claim.step == step):
            lines += section(one)
    return "\n".join(lines).rstrip() + "\n"


def section(tried: Tried) -> list[str]:
    claim, metrics = tried.claim, tried.metrics
    lines = [f"### {claim.english}", claim.chinese, ""]
    lines += ["| what | 量 | lecture | ours | seeds |", "|---|---|---|---|---|"]
    for name, spread in metrics.get("measured", {}).items():
        deck = number(claim.deck.get(name))
        words = claim.words.get(name, "")
        lines.append(f"| {name} | {words} | {deck} | {ours(spread)} | {seeds(spread)} |")
    lines.append("")
    if tried.verdict:
        english, chinese = verdict(tried)
        lines += [
            f"The claim {english}: {tried.verdict.english}.",
            "",
            f"{chinese}：{tried.verdict.chinese}。",
        ]
        lines += ["", f"`python -m experiments {tried.name}`, {time(tried)[0]}; "]
        lines[-1] += f"[{claim.source}]({REPOSITORY}/{claim.source}); rows {', '.join(claim.rows)}."
    else:
        lines += [f"Not yet run: `python -m experiments {tried.name}`, {claim.minutes:g} minutes."]
    return [*lines, ""]
