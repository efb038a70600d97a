"""The comparison as a page of Markdown."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from differential.modssl.compare import KNOWN, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from differential.modssl.compare import Step
    from differential.modssl.stage import Observation

_WHAT_IS_THE_SAME = (
    "A step is the same if the client saw the same staple, none, or the same alert; if the same bytes reached the "
    "responder; and if the same log numbers were written, in the same order."
)


def markdown(steps: Sequence[Step], texts: Iterable[tuple[str, str, str]], versions: str) -> str:
    """Write tables of the cases, of the texts, and of the reasons; `texts`: input, Apache's, ours."""
    texts = list(texts)
    counts = Counter(step.verdict for step in steps)
    same_texts = sum(apache == ours for _, apache, ours in texts)
    lines = [
        "# Ours beside Apache's mod_ssl",
        "",
        versions,
        "",
        f"Steps compared: {len(steps)}. " + "; ".join(f"{verdict}: {counts[verdict]}" for verdict in Verdict) + ".",
        f"Texts of the configuration test compared: {len(texts)}; same: {same_texts}.",
        "",
        _WHAT_IS_THE_SAME,
        "",
        "| row | case | flags | step | Apache | ours | verdict |",
        "|---|---|---|---|---|---|---|",
        *(line for _, group in groupby(steps, lambda step: step.case.key) for line in _case_lines(list(group))),
        "",
        "## Differences that have to be",
        "",
        "| difference | steps | reason | proof |",
        "|---|---|---|---|",
        *(
            f"| {known.name} | {sum(step.known is known for step in steps)} | {known.reason} | {known.proof} |"
            for known in KNOWN
        ),
        "",
        "## Texts",
        "",
        "| line | Apache | ours |",
        "|---|---|---|",
        *(
            f"| {_code(line)} | {_cell(apache)} | {'same' if apache == ours else _cell(ours)} |"
            for line, apache, ours in texts
        ),
    ]
    return "\n".join(lines) + "\n"


def _case_lines(steps: list[Step]) -> Iterator[str]:
    """One line for a case that is the same throughout, else one for each step."""
    case = steps[0].case
    start = f"| {case.row} | {_cell(case.title)} | {case.flags} |"
    if all(step.verdict is Verdict.SAME for step in steps):
        outcomes = "; ".join(f"{step.apache.what}: {step.apache.outcome}" for step in steps if step.apache.outcome)
        yield f"{start} all | {_cell(outcomes)} | same | same |"
        return
    for step in steps:
        verdict = f"{step.verdict}: {step.known.name}" if step.known else str(step.verdict)
        apache, ours = told(step.apache, step.ours), told(step.ours, step.apache)
        yield f"{start} {_cell(step.apache.what)} | {_cell(apache)} | {_cell(ours)} | {verdict} |"


def told(seen: Observation, other: Observation) -> str:
    """Say what was seen, and of the rest what the other did not show."""
    parts = [seen.outcome or "-"]
    if seen.queries != other.queries:
        parts.append(f"{len(seen.queries)} queries")
        parts += [repr(query.head.decode("latin-1")) for query in seen.queries if query not in other.queries]
    if seen.numbers != other.numbers:
        parts.append("AH " + (" ".join(map(str, seen.numbers)) or "none"))
    return "; ".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    return f"`` {_cell(text)} ``"
