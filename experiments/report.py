"""The lectures' claims beside what was found: a table and a page, from the committed results.

Rewrites `experiments/README.md` and, in the results folder, `report.html`: one page that fetches
nothing, in English and Chinese, in the order of a course (row A18): a set of functions, how good a
function is, and how to pick the best one. Every number and figure is made from the JSON of
`experiments/results`; with `--fresh` those of the results folder are copied there first.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import importlib
import io
import json
import shutil
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import tyro

from experiments import _figure, _report, _run, coverage
from experiments._claim import Claim

RESULTS = _run.HERE / "results"
README = _run.HERE / "README.md"
REPOSITORY = "../jaxdl"
STEPS = {
    "set": ("Step 1: define a set of functions", "第一步：定义函数集合"),
    "goodness": ("Step 2: goodness of a function", "第二步：评判函数的好坏"),
    "best": ("Step 3: pick the best function", "第三步：挑出最好的函数"),
}


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take over the claims' results from the results folder first."""


class Tried(NamedTuple):
    """A claim and what came of it; `result` is None where it has not been run."""

    name: str
    claim: Claim
    draw: Any
    result: dict[str, Any] | None

    @property
    def minutes(self) -> float:
        """How long it took, with the networks that it found trained by another experiment."""
        if self.result is None:
            return self.claim.minutes
        return max(self.result["seconds"], sum(self.metrics.get("seconds", {}).values())) / 60

    @property
    def speedup(self) -> float | None:
        """How many times as fast the seeds were as one program as they would be one by one."""
        separately = self.metrics.get("separately")
        if not separately:
            return None
        return sum(separately.values()) / sum(self.metrics["seconds"][name] for name in separately)

    @property
    def metrics(self) -> dict[str, Any]:
        return self.result["metrics"] if self.result else {}


def run(config: Config) -> None:
    if config.fresh:
        for name, _ in modules():
            found = config.results / name / "result.json"
            if found.is_file():
                shutil.copy(found, RESULTS / f"{name}.json")
    tried = claims()
    config.results.mkdir(parents=True, exist_ok=True)
    page = config.results / "report.html"
    page.write_text(as_page(tried), "utf-8")
    print(f"report: {page}")
    if not config.smoke:
        README.write_text(as_markdown(tried), "utf-8")
        print(f"table: {README}")


def modules() -> Iterator[tuple[str, Any]]:
    """The experiments that try a claim."""
    for name in _run.names():
        if "\nCLAIM = Claim(" in (_run.HERE / f"{name}.py").read_text("utf-8"):
            yield name, importlib.import_module(f"experiments.{name}")


def claims() -> list[Tried]:
    """All of them, in the order of the course, and within a step of the lectures' rows."""
    order = list(coverage.rows())
    tried = []
    for name, module in modules():
        path = RESULTS / f"{name}.json"
        result = json.loads(path.read_text("utf-8")) if path.is_file() else None
        tried.append(Tried(name, module.CLAIM, module.draw, result))
    steps = list(STEPS)
    return sorted(tried, key=lambda t: (steps.index(t.claim.step), order.index(t.claim.rows[0])))


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def ours(spread: dict[str, float]) -> str:
    """Mean and deviation over the seeds, if there are several; small numbers with their digits."""
    mean, deviation = spread["mean"], spread["deviation"]
    digits = ".3f" if abs(mean) >= 0.01 else ".1e"
    return f"{mean:{digits}} ± {deviation:{digits}}" if spread["seeds"] > 1 else f"{mean:{digits}}"


def seeds(spread: dict[str, float]) -> str:
    """How many; none where a number is exact."""
    return f"{spread['seeds'] or '-'}"


def time(tried: Tried) -> tuple[str, str]:
    """What it takes, in both languages."""
    english, chinese = f"{tried.minutes:.1f} minutes", f"{tried.minutes:.1f} 分钟"
    if tried.speedup is None:
        return english, chinese
    return (
        f"{english}, {tried.speedup:.1f} times as fast as its seeds one by one",
        f"{chinese}，比逐个种子运行快 {tried.speedup:.1f} 倍",
    )


def whole(tried: list[Tried]) -> tuple[str, str]:
    """What all of them take, one after the other, networks in common trained once."""
    minutes = sum(t.result["seconds"] for t in tried if t.result) / 60
    machines = {t.result["machine"] for t in tried if t.result}
    where = "; ".join(sorted(machines))
    return (
        f"All of them take {minutes:.0f} minutes one after the other ({where}).",
        f"全部依次运行需 {minutes:.0f} 分钟（{where}）。",
    )


def verdict(tried: Tried) -> tuple[str, str]:
    if tried.result is None:
        return "not yet run", "尚未运行"
    return ("holds", "成立") if tried.metrics["holds"] else ("does not hold", "不成立")


def as_markdown(tried: list[Tried]) -> str:
    """experiments/README.md"""
    lines = [
        "# The lectures' claims, tried",
        "",
        "Written by `python -m experiments report` from the results in this folder; nothing here",
        "is typed by hand. Ours are means and deviations over the seeds, beside the lectures'.",
        "",
        *(part for text in whole(tried) for part in (text, "")),
    ]
    for step, (english, chinese) in STEPS.items():
        lines += [f"## {english}", f"## {chinese}", ""]
        for one in (t for t in tried if t.claim.step == step):
            lines += section(one)
    return "\n".join(lines).rstrip() + "\n"


def section(tried: Tried) -> list[str]:
    claim, metrics = tried.claim, tried.metrics
    lines = [f"### {claim.english}", claim.chinese, ""]
    lines += ["| what | 量 | lecture | ours | seeds |", "|---|---|---|---|---|"]
    for name, spread in metrics.get("found", {}).items():
        deck = number(claim.deck.get(name))
        words = claim.words.get(name, "")
        lines.append(f"| {name} | {words} | {deck} | {ours(spread)} | {seeds(spread)} |")
    lines.append("")
    if tried.result:
        english, chinese = verdict(tried)
        lines += [
            f"The claim {english}: {metrics['said']}.",
            "",
            f"{chinese}：{metrics['chinese']}。",
        ]
        lines += ["", f"`python -m experiments {tried.name}`, {time(tried)[0]}; "]
        lines[-1] += f"[{claim.source}]({REPOSITORY}/{claim.source}); rows {', '.join(claim.rows)}."
    else:
        lines += [f"Not yet run: `python -m experiments {tried.name}`, {claim.minutes:g} minutes."]
    return [*lines, ""]


PAGE_STYLE = """
input[name=language] { position: absolute; opacity: 0; }
label { cursor: pointer; padding: .2rem .7rem; border: 1px solid var(--rule); border-radius: 4px; }
#en:checked ~ nav label[for=en], #zh:checked ~ nav label[for=zh] { background: var(--accent);
  color: var(--page); border-color: var(--accent); }
input:focus-visible ~ nav label { outline: 2px solid var(--accent); outline-offset: 2px; }
#en:checked ~ main .zh, #zh:checked ~ main .en { display: none; }
nav { display: flex; gap: .5rem; margin-bottom: 1.5rem; }
h3 { font-size: 1.125rem; line-height: 1.4; margin: 2.25rem 0 .4rem; max-width: 42rem; }
figure.wide { max-width: none; margin: 1rem 0; }
code { font-size: .9em; overflow-wrap: anywhere; }
.verdict { font-weight: 600; }
td { white-space: nowrap; }
td:first-child { white-space: normal; }
:lang(zh) { font-family: "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Source Han Sans SC",
  system-ui, sans-serif; }
"""


def as_page(tried: list[Tried]) -> str:
    """The page; a choice of language without a script."""
    steps = "".join(
        f"<section><h2>{both(*titles)}</h2>"
        + "".join(article(t) for t in tried if t.claim.step == step)
        + "</section>"
        for step, titles in STEPS.items()
    )
    done = [t for t in tried if t.result]
    held = sum(t.metrics["holds"] for t in done)
    lead = both(
        f"{len(done)} claims of five lecture decks on deep learning, each run by a command: "
        f"{held} hold. Numbers are means and deviations over the seeds.",
        f"五份深度学习讲义中的 {len(done)} 条论断，每条都可用一条命令重现：{held} 条成立。"
        "数字为各随机种子的均值与标准差。",
    )
    lead += " " + both(*whole(tried))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The lectures, run · 讲义实验</title>
<style>{_report.STYLE}{PAGE_STYLE}</style>
</head>
<body>
<input type="radio" name="language" id="en" checked aria-label="English">
<input type="radio" name="language" id="zh" aria-label="中文">
<nav><label for="en">English</label><label for="zh" lang="zh">中文</label></nav>
<main>
<h1>{both("The lectures, run", "讲义实验")}</h1>
<p class="lead">{lead}</p>
{steps}
</main>
</body>
</html>
"""


def article(tried: Tried) -> str:
    claim, metrics = tried.claim, tried.metrics
    rows = "".join(
        f"<tr><td>{both(name, claim.words.get(name, name))}</td>"
        f"<td>{number(claim.deck.get(name))}</td><td>{ours(spread)}</td>"
        f"<td>{seeds(spread)}</td></tr>"
        for name, spread in metrics.get("found", {}).items()
    )
    heads = (("", ""), ("lecture", "讲义"), ("ours", "实测"), ("seeds", "种子数"))
    head = "".join(f"<th>{both(*names)}</th>" for names in heads)
    english, chinese = verdict(tried)
    said = ""
    if tried.result:
        said = (
            f'<p><span class="verdict">{both(english.capitalize(), chinese)}</span>'
            f"{both(': ' + metrics['said'] + '.', '：' + metrics['chinese'] + '。')}</p>"
        )
    command = f"python -m experiments {tried.name}"
    source = f'<a href="{REPOSITORY}/{claim.source}">{claim.source}</a>'
    return (
        f"<article><h3>{both(claim.english, claim.chinese)}</h3>"
        f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>{said}{picture(tried)}'
        f"<p><code>{command}</code> · {both(*time(tried))} · "
        f"{source} · {', '.join(claim.rows)}</p></article>\n"
    )


def picture(tried: Tried) -> str:
    """The figure, drawn anew from the result."""
    if tried.result is None:
        return ""
    figure = tried.draw(tried.metrics)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    _figure.pyplot().close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(tried.claim.english)
    return f'<figure class="wide"><img alt="{alt}" src="data:image/png;base64,{data}"></figure>'


def both(english: str, chinese: str) -> str:
    """A text in both languages, of which the page shows one."""
    return (
        f'<span class="en" lang="en">{html.escape(english)}</span>'
        f'<span class="zh" lang="zh">{html.escape(chinese)}</span>'
    )
