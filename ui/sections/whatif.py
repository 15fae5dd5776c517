"""The section "What if?": a visitor hides a part of the picture, and asks again."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from ui.components.events import MODEL, PRIVATE
from ui.presenters.answers import Asked, picture_of, plain
from ui.presenters.explanations import percent
from vqa.engine import Engine
from vqa.errors import BadImage, BadText

CELLS = 10  # squares a side that can be hidden
FORGOTTEN = "The answer is no longer remembered: ask again."
HEADING = "## What if a part were hidden?"

_BOARD = """
{{#if value}}
<p class="hint">Paint over what should be hidden, with the mouse or a finger; or go there with the
arrow keys and press the space bar.</p>
<div class="stack"><img src="{{value.picture}}" alt="The picture">
<div class="board" tabindex="0" role="application" aria-label="The picture in squares: arrow keys
move, the space bar hides a square or shows it again"></div></div>
<p class="place" aria-live="polite"></p>
<p class="buttons"><button type="button" class="again" disabled>Hide this and ask again</button>
<button type="button" class="clear" disabled>Clear</button></p>
{{/if}}"""
# Painting hides squares, or shows them again if it began on a hidden one.
_PAINT = """
const side = SIDE, middle = side * Math.floor(side / 2) + Math.floor(side / 2);
const hidden = new Set();
let cursor = middle, hides = null;
const find = (selector) => element.querySelector(selector);
const draw = () => {
  const board = find('.board');
  if (!board) return;
  if (board.children.length !== side * side)
    board.replaceChildren(...Array.from({length: side * side}, () => document.createElement('i')));
  [...board.children].forEach((cell, i) => {
    cell.classList.toggle('hidden', hidden.has(i));
    cell.classList.toggle('cursor', i === cursor);
  });
  find('.again').disabled = find('.clear').disabled = !hidden.size;
};
const set = (cell, hide) => {
  cursor = cell;
  hide ? hidden.add(cell) : hidden.delete(cell);
  draw();
};
const cellAt = (event) => {
  const box = find('.board').getBoundingClientRect();
  const at = (share) => Math.min(side - 1, Math.max(0, Math.floor(share * side)));
  const row = at((event.clientY - box.top) / box.height);
  return row * side + at((event.clientX - box.left) / box.width);
};
element.addEventListener('pointerdown', (event) => {
  if (!event.target.closest('.board')) return;
  event.preventDefault();
  find('.board').focus({preventScroll: true});
  find('.board').setPointerCapture(event.pointerId);
  hides = !hidden.has(cellAt(event));
  set(cellAt(event), hides);
});
element.addEventListener('pointermove', (event) => {
  if (hides !== null && event.buttons) set(cellAt(event), hides);
});
for (const end of ['pointerup', 'pointercancel'])
  element.addEventListener(end, () => { hides = null; });
element.addEventListener('keydown', (event) => {
  if (!event.target.closest('.board')) return;
  const row = Math.floor(cursor / side), column = cursor % side;
  const to = {
    ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
    ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
  }[event.key];
  if (to && to.every((place) => place >= 0 && place < side)) cursor = to[0] * side + to[1];
  else if (event.key === ' ') hidden.has(cursor) ? hidden.delete(cursor) : hidden.add(cursor);
  if (to || event.key === ' ') {
    event.preventDefault();
    draw();
    const where = `Row ${Math.floor(cursor / side) + 1}, column ${cursor % side + 1}`;
    find('.place').textContent = where + (hidden.has(cursor) ? ': hidden.' : ': shown.');
  }
});
element.addEventListener('click', (event) => {
  if (event.target.closest('.again')) trigger('select', {index: [...hidden], value: ''});
  if (event.target.closest('.clear')) {
    hidden.clear();
    draw();
    find('.board').focus({preventScroll: true});
  }
});
watch('value', () => {
  hidden.clear();
  cursor = middle;
  draw();
});
draw();
"""


class WhatIf(NamedTuple):
    """The components of the section."""

    section: gr.Column
    board: gr.HTML
    results: gr.Row
    before: gr.Label
    after: gr.Label
    line: gr.Markdown


def build() -> WhatIf:
    """Add the section, hidden, to the page under construction."""
    with gr.Column(visible=False, elem_id="whatif") as section:
        gr.Markdown(HEADING)
        with gr.Row(equal_height=False, elem_id="whatif-row"):
            with gr.Column(scale=5, min_width=300):
                board = gr.HTML(
                    html_template=_BOARD,
                    js_on_load=_PAINT.replace("SIDE", str(CELLS)),
                    apply_default_css=False,
                    elem_id="whatif-board",
                    elem_classes="maps",
                )
            with gr.Column(scale=6, min_width=300):
                line = gr.Markdown(elem_id="whatif-line", latex_delimiters=[])
                with gr.Row(visible=False, elem_id="whatif-answers") as results:
                    before, after = (
                        gr.Label(label=label, show_heading=False, min_width=220, elem_id=elem_id)
                        for label, elem_id in (
                            ("As it is", "whatif-before"),
                            ("With that hidden", "whatif-after"),
                        )
                    )
    return WhatIf(section, board, results, before, after, line)


def cleared(parts: WhatIf, asked: Asked | None) -> dict[Any, Any]:
    """New values: nothing hidden, and the section only where there is an answer."""
    picture = None if asked is None else {"picture": picture_of(asked.path).uri}
    return {
        parts.section: gr.Column(visible=asked is not None),
        parts.board: picture,
        parts.results: gr.Row(visible=False),
        parts.line: "",
    }


def listen(engine: Engine, parts: WhatIf, asked: gr.State) -> None:
    """Ask again when the visitor wants it."""

    def again(asked: Asked | None, event: gr.SelectData) -> dict[Any, Any]:
        """New values for the squares that are hidden, or in words why there are none."""
        if asked is None:  # a session that is long over
            return {parts.line: FORGOTTEN, parts.results: gr.Row(visible=False)}
        try:
            found = engine.what_if(asked.path, asked.question, mask(event.index))
        except (BadImage, BadText) as error:
            return {parts.line: plain(str(error)), parts.results: gr.Row(visible=False)}
        before, after = found.before, found.after
        return {
            parts.line: line(found.share, before.top[0], after.top[0], dict(after.top)),
            parts.results: gr.Row(visible=True),
            parts.before: gr.Label(dict(before.top)),
            parts.after: gr.Label(dict(after.top)),
        }

    shown = [parts.line, parts.results, parts.before, parts.after]
    waits: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": parts.results}
    parts.board.select(again, asked, shown, **waits, **MODEL, **PRIVATE)


def mask(cells: Any) -> np.ndarray:
    """Numbers of squares, from the browser -> (CELLS, CELLS) bool, True where hidden."""
    hidden = np.zeros(CELLS * CELLS, bool)
    given = cells if isinstance(cells, list) else []
    places = [c for c in given if isinstance(c, int) and 0 <= c < hidden.size]
    hidden[places] = True
    return hidden.reshape(CELLS, CELLS)


def line(
    share: float,
    before: tuple[str, float],
    after: tuple[str, float],
    probabilities: dict[str, float],
) -> str:
    """What hiding did to the answer, as Markdown.

    Args:
        share: of the picture that is hidden.
        before: the answer and its probability.
        after: the same with the part hidden.
        probabilities: of the likeliest answers then.
    """
    old, new = f"*{plain(before[0])}*", f"*{plain(after[0])}*"
    hidden = f"Hiding {percent(share)} of the picture"
    if before[0] == after[0]:
        return f"{hidden} leaves the answer {old} ({percent(before[1])} → {percent(after[1])})."
    left = probabilities.get(before[0])
    kept = f"{old} has {percent(left)} left" if left else f"{old} is no longer among the guesses"
    return f"{hidden} changes the answer from {old} to {new}; {kept}."
