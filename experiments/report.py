"""Writes the report of the lectures' claims: a table and a page, from the committed results.

The table is `experiments/README.md`. The page is `report.html` in the results folder: one file that
loads nothing, in English and Chinese, in the order of a course (row A18): a set of functions, how
good a function is, and the best one. All numbers and figures are made from the JSON files of
`experiments/results`; with `--fresh` those of the results folder are copied there first.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import shutil
from typing import Annotated, Any

import tyro

from experiments import _figure, _run
from experiments._claim import (
    STEPS,
    ClaimResult,
    chinese_texts,
    claims,
    count_outcomes,
    modules,
)

README = _run.HERE / "README.md"
REPOSITORY = "../jaxdl"
PAGE = {
    "title": "The lectures, run",
    "lead": "{count} claims of five lecture decks on deep learning, each run by a command: "
    "{outcomes}. Numbers are means and deviations over the seeds; the speed-up is that of all "
    "seeds as one program over each by itself.",
    "total": "One after the other, all of them take {minutes:.0f} minutes ({machines}).",
    "set": "Step 1: define a set of functions",
    "goodness": "Step 2: goodness of a function",
    "best": "Step 3: pick the best function",
    "claim": "claim",
    "outcome": "",
    "what": "",
    "lecture": "lecture",
    "ours": "ours",
    "seeds": "seeds",
    "minutes": "minutes",
    "speedup": "speed-up",
    "time": "{minutes:.1f} minutes",
    "time_and_speedup": "{minutes:.1f} minutes, {speedup:.1f} times as fast as its seeds one by "
    "one",
    "reason": ": {reason}.",
    "count": "{outcome}: {count}",
    "join": ", ",
}
"""The page's own text, by the keys of [page] in `chinese.toml`."""
OVERVIEW = ("claim", "outcome", "seeds", "minutes", "speedup")
"""The columns of the table of all claims."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Copy the claims' results from the results folder first; they must be of a clean commit."""


def run(config: Config) -> None:
    if config.fresh:
        for name, _ in modules():
            path = config.results / name / "result.json"
            if path.is_file():
                # Before the copy: a committed result must be reproducible from its commit.
                _run.require_clean(json.loads(path.read_text("utf-8")))
                shutil.copy(path, _run.RESULTS / f"{name}.json")
    results = claims()
    config.results.mkdir(parents=True, exist_ok=True)
    page = config.results / "report.html"
    page.write_text(as_page(results), "utf-8")
    print(f"report: {page}")
    if not config.smoke:
        README.write_text(as_markdown(results), "utf-8")
        print(f"table: {README}")


# Texts in both languages, as (English, Chinese).


def translate(key: str, **values: Any) -> tuple[str, str]:
    """Returns a text of the page in both languages, filled with values."""
    return PAGE[key].format(**values), chinese_texts()["page"][key].format(**values)


def outcome(one: ClaimResult) -> tuple[str, str]:
    name = one.verdict.outcome if one.verdict else "not yet run"
    return name, chinese_texts()["outcomes"][name]


def outcomes(results: list[ClaimResult]) -> tuple[str, str]:
    """Returns how many claims have each outcome."""
    chinese = chinese_texts()
    texts = []
    for number, join, words in (
        (PAGE["count"], PAGE["join"], {}),
        (chinese["page"]["count"], chinese["page"]["join"], chinese["outcomes"]),
    ):
        counts = count_outcomes(results).items()
        texts.append(join.join(number.format(count=n, outcome=words.get(o, o)) for o, n in counts))
    return texts[0], texts[1]


def total(results: list[ClaimResult]) -> tuple[str, str]:
    """Returns the time of all experiments, in which networks in common are trained once."""
    minutes = sum(one.result["seconds"] for one in results if one.result) / 60
    machines = {one.result["machine"] for one in results if one.result}
    return translate("total", minutes=minutes, machines="; ".join(sorted(machines)))


def time(one: ClaimResult) -> tuple[str, str]:
    """Returns how long an experiment takes, and the speed-up of its seeds."""
    key = "time" if one.speedup is None else "time_and_speedup"
    return translate(key, minutes=one.minutes, speedup=one.speedup)


def overview(one: ClaimResult) -> tuple[tuple[str, str], ...]:
    """Returns the cells of a claim in the table of all claims, after the claim itself."""
    seeds = [spread["seeds"] for spread in one.metrics.get("measured", {}).values()]
    least = f"{min(seeds, default=0) or '-'}"
    speedup = "-" if one.speedup is None else f"{one.speedup:.1f}"
    minutes = f"{one.minutes:.1f}"
    return outcome(one), (least, least), (minutes, minutes), (speedup, speedup)


def list_quantities(one: ClaimResult) -> list[list[str]]:
    """Returns for each quantity its English and Chinese name, the deck's number, ours, the seeds.

    Ours is a mean with the deviation over the seeds if there are several.
    """
    rows = []
    for name, spread in one.metrics.get("measured", {}).items():
        mean, deviation, seeds = spread["mean"], spread["deviation"], spread["seeds"]
        digits = ".3f" if abs(mean) >= 0.01 else ".1e"
        ours = f"{mean:{digits}}" + (f" ± {deviation:{digits}}" if seeds > 1 else "")
        deck = one.claim.deck.get(name)
        number = "-" if deck is None else f"{deck:.2f}"
        # An exact number has no seeds.
        rows.append([name, one.chinese.words.get(name, name), number, ours, f"{seeds or '-'}"])
    return rows


# The table.


def as_markdown(results: list[ClaimResult]) -> str:
    """Returns the text of `experiments/README.md`."""
    heads = [" ".join(translate(key)).strip() for key in OVERVIEW]
    lines = [
        "# The lectures' claims, tested",
        "",
        "Written by `python -m experiments report` from the results in this folder. Our numbers",
        "are means and deviations over the seeds, next to those of the lectures.",
        "",
        "Speed-up: the time of the seeds one by one, each compiled again, over their time as one",
        "program.",
        "",
        *(part for text in total(results) for part in (text, "")),
        "| experiment | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for one in results:
        cells = " | ".join(english for english, _ in overview(one))
        claim = f"{one.claim.statement} {one.chinese.claim}"
        lines.append(f"| `{one.name}` | {claim} | {cells} |")
    lines.append("")
    for step in STEPS:
        english, chinese = translate(step)
        lines += [f"## {english}", f"## {chinese}", ""]
        for one in (one for one in results if one.claim.step == step):
            lines += section(one)
    return "\n".join(lines).rstrip() + "\n"


def section(one: ClaimResult) -> list[str]:
    """Returns the lines of a claim's section of the table."""
    claim, command = one.claim, f"`python -m experiments {one.name}`"
    heads = "| what | {} | lecture | ours | seeds |".format(translate("what")[1])
    lines = [f"### {claim.statement}", one.chinese.claim, "", heads, "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in list_quantities(one)]
    lines.append("")
    if not one.verdict:
        return [*lines, f"Not yet run: {command}, {claim.minutes:g} minutes.", ""]
    english, chinese = outcome(one)
    reasons = one.verdict.reason, one.chinese.reason(one.verdict)
    lines += [f"The claim {english}{translate('reason', reason=reasons[0])[0]}", ""]
    lines += [f"{chinese}{translate('reason', reason=reasons[1])[1]}", ""]
    source = f"[{claim.source}]({REPOSITORY}/{claim.source})"
    return [*lines, f"{command}, {time(one)[0]}; {source}; rows {', '.join(claim.rows)}.", ""]


# The page.


def as_page(results: list[ClaimResult]) -> str:
    """Returns the page's HTML; the choice of the language needs no script."""
    done = [one for one in results if one.result]
    english, chinese = outcomes(results)
    lead = both(
        translate("lead", count=len(done), outcomes=english)[0],
        translate("lead", count=len(done), outcomes=chinese)[1],
    )
    lead += " " + both(*total(results))
    style = "\n".join((_run.HERE / f"{name}.css").read_text("utf-8") for name in ("page", "report"))
    steps = "".join(
        f"<section><h2>{both(*translate(step))}</h2>"
        + "".join(article(one) for one in results if one.claim.step == step)
        + "</section>"
        for step in STEPS
    )
    language = chinese_texts()["page"]["language"]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{" · ".join(translate("title"))}</title>
<style>
{style}</style>
</head>
<body>
<input type="radio" name="language" id="en" checked aria-label="English">
<input type="radio" name="language" id="zh" aria-label="{language}">
<nav><label for="en">English</label><label for="zh" lang="zh">{language}</label></nav>
<main>
<h1>{both(*translate("title"))}</h1>
<p class="lead">{lead}</p>
{contents(results)}
{steps}
</main>
</body>
</html>
"""


def contents(results: list[ClaimResult]) -> str:
    """Returns the table of all claims, each with a link to its own part of the page."""
    head = "".join(f"<th>{both(*translate(key))}</th>" for key in OVERVIEW)
    rows = []
    for one in results:
        name = both(one.claim.statement, one.chinese.claim)
        cells = "".join(f"<td>{both(*texts)}</td>" for texts in overview(one))
        rows.append(f'<tr><td><a href="#{one.name}">{name}</a></td>{cells}</tr>')
    return f'<div class="scroll contents"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def article(one: ClaimResult) -> str:
    """Returns the part of the page about one claim."""
    claim = one.claim
    rows = "".join(
        f"<tr><td>{both(english, chinese)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for english, chinese, *cells in list_quantities(one)
    )
    heads = [both(*translate(key)) for key in ("lecture", "ours", "seeds")]
    head = "".join(f"<th>{text}</th>" for text in (both("", ""), *heads))
    verdict = ""
    if one.verdict:
        english, chinese = outcome(one)
        reason = both(
            translate("reason", reason=one.verdict.reason)[0],
            translate("reason", reason=one.chinese.reason(one.verdict))[1],
        )
        name = both(english.capitalize(), chinese)
        verdict = f'<p><span class="verdict">{name}</span>{reason}</p>'
    source = f'<a href="{REPOSITORY}/{claim.source}">{claim.source}</a>'
    return (
        f'<article id="{one.name}">'
        f"<h3>{both(claim.statement, one.chinese.claim)}</h3>"
        f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>{verdict}{picture(one)}'
        f"<p><code>python -m experiments {one.name}</code> · {both(*time(one))} · "
        f"{source} · {', '.join(claim.rows)}</p></article>\n"
    )


def picture(one: ClaimResult) -> str:
    """Returns the figure, which is drawn again from the result."""
    if one.result is None:
        return ""
    # From the committed numbers, so that the page needs no file that is not in the repository.
    figure = one.module.draw(one.metrics)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    _figure.pyplot().close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(one.claim.statement)
    return f'<figure class="wide"><img alt="{alt}" src="data:image/png;base64,{data}"></figure>'


def both(english: str, chinese: str) -> str:
    """Returns a text in both languages, one of them visible by the page's style."""
    return (
        f'<span class="en" lang="en">{html.escape(english)}</span>'
        f'<span class="zh" lang="zh">{html.escape(chinese)}</span>'
    )
