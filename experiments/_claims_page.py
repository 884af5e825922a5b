"""The lectures' claims as one page that fetches nothing, in English and Chinese."""

from __future__ import annotations

import base64
import html
import io

from experiments import _figure, _report
from experiments._tried import (
    OVERVIEW,
    REPOSITORY,
    STEPS,
    Tried,
    number,
    ours,
    outcomes,
    overview,
    seeds,
    time,
    verdict,
    whole,
)

PAGE_STYLE = """
input[name=language] { position: absolute; opacity: 0; }
label { cursor: pointer; padding: .2rem .7rem; border: 1px solid var(--rule); border-radius: 4px; }
#en:checked ~ nav label[for=en], #zh:checked ~ nav label[for=zh] { background: var(--accent);
  color: var(--page); border-color: var(--accent); }
input:focus-visible ~ nav label { outline: 2px solid var(--accent); outline-offset: 2px; }
#en:checked ~ main .zh, #zh:checked ~ main .en { display: none; }
nav { display: flex; gap: .5rem; margin-bottom: 1.5rem; }
a { color: var(--accent); }
h3 { font-size: 1.125rem; line-height: 1.4; margin: 2.25rem 0 .4rem; max-width: 42rem; }
figure.wide { max-width: none; margin: 1rem 0; }
code { font-size: .9em; overflow-wrap: anywhere; }
.verdict { font-weight: 600; }
td { white-space: nowrap; }
td:first-child { white-space: normal; min-width: 8rem; }
.contents td:first-child { min-width: 13rem; }
@media (max-width: 36rem) {
  th, td { padding-right: .75rem; }
  .contents td:first-child { min-width: 9rem; }
}
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
    english, chinese = outcomes(tried)
    lead = both(
        f"{len(done)} claims of five lecture decks on deep learning, each run by a command: "
        f"{english}. Numbers are means and deviations over the seeds; the speed-up is that of "
        "all seeds as one program over each by itself.",
        f"五份深度学习讲义中的 {len(done)} 条论断，每条都可用一条命令重现：{chinese}。"
        "数字为各随机种子的均值与标准差；加速比为全部种子作为一个程序运行与逐个运行之比。",
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
{contents(tried)}
{steps}
</main>
</body>
</html>
"""


def contents(tried: list[Tried]) -> str:
    """The table of all claims, each with a link to its own part of the page."""
    head = "".join(f"<th>{both(*names)}</th>" for names in OVERVIEW)
    rows = []
    for one in tried:
        name = both(one.claim.english, one.claim.chinese)
        cells = "".join(f"<td>{both(*texts)}</td>" for texts in overview(one))
        rows.append(f'<tr><td><a href="#{one.name}">{name}</a></td>{cells}</tr>')
    return f'<div class="scroll contents"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def article(tried: Tried) -> str:
    claim, metrics = tried.claim, tried.metrics
    rows = "".join(
        f"<tr><td>{both(name, claim.words.get(name, name))}</td>"
        f"<td>{number(claim.deck.get(name))}</td><td>{ours(spread)}</td>"
        f"<td>{seeds(spread)}</td></tr>"
        for name, spread in metrics.get("measured", {}).items()
    )
    heads = (("", ""), ("lecture", "讲义"), ("ours", "实测"), ("seeds", "种子数"))
    head = "".join(f"<th>{both(*names)}</th>" for names in heads)
    english, chinese = verdict(tried)
    said = ""
    if tried.verdict:
        reason = both(f": {tried.verdict.english}.", f"：{tried.verdict.chinese}。")
        said = f'<p><span class="verdict">{both(english.capitalize(), chinese)}</span>{reason}</p>'
    command = f"python -m experiments {tried.name}"
    source = f'<a href="{REPOSITORY}/{claim.source}">{claim.source}</a>'
    return (
        f'<article id="{tried.name}">'
        f"<h3>{both(claim.english, claim.chinese)}</h3>"
        f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>{said}{picture(tried)}'
        f"<p><code>{command}</code> · {both(*time(tried))} · "
        f"{source} · {', '.join(claim.rows)}</p></article>\n"
    )


def picture(tried: Tried) -> str:
    """The figure, drawn anew from the result."""
    if tried.result is None:
        return ""
    figure = tried.module.draw(tried.metrics)
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
