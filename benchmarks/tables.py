"""The tables of README and docs, from the registry and benchmarks/results.json.

    python -m benchmarks.tables

rewrites what stands between `<!-- table: name -->` and `<!-- end -->`; a test holds the two equal.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.latency import RESULTS
from saliency.registry import METHODS, table
from training.card import ABLATION, LABELS
from vqa.checkpoints.layout import SHIPPED
from vqa.tasks import ANSWER

ROOT = RESULTS.parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COVERS = ("changed", "moved changed")
CAPTIONERS = {"captioner": "LSTM", "captioner-bilstm": "LSTMs in both directions of time"}
_PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Bring the tables of README and docs up to date."""
    for page in PAGES:
        text = filled(page.read_text(encoding="utf-8"), "" if page.parent == ROOT else "../")
        page.write_text(text, encoding="utf-8")


def filled(text: str, root: str = "") -> str:
    """A text with all its tables made anew.

    Args:
        text: of a page, in Markdown.
        root: the way from its folder to the repository's, for links: "../" or nothing.

    Raises:
        KeyError: if it asks for a table that there is not, or whose numbers were not recorded.
    """
    results = json.loads(Path(RESULTS).read_text(encoding="utf-8"))
    makers = {
        "methods": table,
        "faithfulness": lambda: faithfulness(results["faithfulness"]["methods"]),
        "speed": lambda: speed(results["saliency"]["tasks"]),
        "answers": answers,
        "latency": lambda: latency(results["latency"]["milliseconds"]),
        "captions": captions,
        "caption_speed": lambda: caption_speed(results["captions"]),
        "scaling": lambda: scaling(results["scaling"]["tasks"]),
        "load": lambda: load(results["load"]["clients"]),
        "gaze": gaze,
        "feelings": feelings,
    }

    def fill(place: re.Match[str]) -> str:
        made = makers[place[2]]().replace("](model_cards/", f"]({root}model_cards/")
        return f"{place[1]}{made}\n{place[3]}"

    return _PLACE.sub(fill, text)


def faithfulness(methods: dict[str, dict[str, Any]]) -> str:
    """Each method's areas, with 95% confidence intervals, and what covering does."""
    lines = [
        "| map | deletion area | minus random's | minus its own, moved | insertion area "
        "| minus random's | covered, the answer changes | moved cover |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in methods.items():
        label = METHODS[name].label if name in METHODS else f"*{name}*"
        cells = [
            f"{entry['deletion'][0]:.3f}",
            _spread(entry.get("deletion - random")),
            _spread(entry.get("deletion - moved")),
            f"{entry['insertion'][0]:.3f}",
            _spread(entry.get("insertion - random")),
            *(f"{entry[what][0]:.0%}" if what in entry else "" for what in COVERS),
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(interval: list[float] | None) -> str:
    if interval is None:
        return ""
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(*interval)


def speed(tasks: dict[str, dict[str, dict[str, dict[str, float]]]]) -> str:
    """Ours beside every peer, in milliseconds and as ratios."""
    lines = ["| network | task | ours, ms | against | theirs, ms | ours / theirs |"]
    lines.append("|---|---|---|---|---|---|")
    for network, contests in tasks.items():
        for task, rows in contests.items():
            ours = rows["ours"]
            others = {name: row for name, row in rows.items() if name != "ours"} or {"": {}}
            for name, row in others.items():
                theirs = f"{row['wall']:.2f} | {row['wall ratio']:.2f}" if row else " | "
                label = "the bare passes" if name == "bare" else name
                lines.append(f"| {network} | {task} | {ours['wall']:.2f} | {label} | {theirs} |")
    return "\n".join(lines)


def latency(milliseconds: dict[str, dict[str, float]]) -> str:
    """What an answer takes, part by part."""
    lines = ["| | median | 95th percentile |", "|---|---|---|"]
    lines += [
        f"| {name} | {each['median']} | {each['95th']} |" for name, each in milliseconds.items()
    ]
    return "\n".join(lines)


def answers() -> str:
    """The shipped answerer beside its ablations, as its card has them."""
    columns = ANSWER.columns
    lines = [f"| | {' | '.join(columns)} |".replace("_", " "), "|---" * (len(columns) + 1) + "|"]
    for name, result in _results("vqa").items():
        if not name.startswith(ABLATION):
            cells = [str(result["metrics"].get(key, "")) for key in columns]
            lines.append(f"| {LABELS.get(name, name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def captions() -> str:
    """The shipped captioners, by their main results."""
    lines = [
        "| model | CIDEr | BLEU-1 | BLEU-4 | ROUGE-L | different words |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in CAPTIONERS.items():
        if not (SHIPPED / name / "metrics.json").exists():
            continue
        found = _results(name)["caption"]["metrics"]
        cells = [str(found[key]) for key in ("cider", "bleu1", "bleu4", "rouge_l", "words")]
        lines.append(f"| [{label}](model_cards/{name}/README.md) | {' | '.join(cells)} |")
    return "\n".join(lines)


def gaze() -> str:
    """The shipped gaze model beside the centre."""
    found = _results("gaze")["gaze"]["metrics"]
    lines = ["| | CC | NSS | AUC-Judd |", "|---|---|---|---|"]
    for label, prefix in (("[gaze model](model_cards/gaze/README.md)", ""), ("centre", "centre_")):
        cells = [f"{found[prefix + key]:.3f}" for key in ("cc", "nss", "auc_judd")]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def feelings() -> str:
    """The shipped model of feelings, a head a line."""
    lines = ["| labels | macro-F1 | accuracy | a right one among the best five |"]
    lines.append("|---|---|---|---|")
    for name, entry in _results("emoji").items():
        if "macro_f1" in (found := entry["metrics"]):
            keys = ("macro_f1", "accuracy", "top5")
            cells = ["" if found[key] == 100 else str(found[key]) for key in keys]  # of 4 labels
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _results(name: str) -> dict[str, Any]:
    file = SHIPPED / name / "metrics.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))["results"])


def caption_speed(measured: dict[str, Any]) -> str:
    """What a search costs beside the bare arithmetic."""
    lines = ["| | ms | search / this |", "|---|---|---|"]
    for name, milliseconds in measured["milliseconds"].items():
        ratio = measured["ratios"].get(name)
        lines.append(f"| {name} | {milliseconds:.2f} | {'' if ratio is None else f'{ratio:.2f}'} |")
    return "\n".join(lines)


def scaling(tasks: dict[str, dict[str, Any]]) -> str:
    """What two processes gain over one."""
    lines = ["| | one process, s | two processes, s | times as fast |", "|---|---|---|---|"]
    for name, found in tasks.items():
        one, two = (f"{found['seconds'][count]:.0f}" for count in "12")
        lines.append(f"| {found['lines']} {name} | {one} | {two} | {found['speedup']:.2f} |")
    return "\n".join(lines)


def load(clients: dict[str, dict[str, Any]]) -> str:
    """What the server does for one client and for many."""
    lines = [
        "| clients | requests a second | median, s | 95th percentile, s | oldest, s | errors |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for count, found in clients.items():
        took = [f"{found[key]:.2f}" for key in ("median", "95th", "oldest")]
        lines.append(
            f"| {count} | {found['per_second']} | {' | '.join(took)} | {found['errors']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
