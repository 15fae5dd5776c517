"""The conversation as `gr.Chatbot` shows it, and what that leaves to be desired.

Messages are text, never Markdown or HTML: the Chatbot would still show a tag, so that what could
begin one is followed by an invisible character, which
`vqa.preprocessing.question_text.check` takes out again. Only the thumbnails are HTML, of
our own words and data URIs alone.
"""

from __future__ import annotations

import html
import itertools
from typing import Any

import gradio as gr

from ui.components.examples import EXAMPLES
from ui.presenters.conversation import MAX_TURNS, PICTURE, Conversation, Turn

WHY, WHAT_IF = "Why?", "What if?"
WAITS = "…"  # where an answer will stand
CHIPS = 4  # under the newest message
TRY = (  # label of an example, and what to ask about it: one for each model
    ("Cat", "What animal is this?"),
    ("Temple", "What is in the picture?"),
    ("Astronaut", "Where would people look?"),
)
_BREAKER = "\N{WORD JOINER}"
_PLACEHOLDER = (
    "<strong>Talk about a picture</strong><br>Choose one above and ask what you like. Every answer "
    "brings a map of where the model looked: press an answer, and its evidence stands beside it."
    "<br>Or begin with one of these:"
)
_NUMBERS = itertools.count()

# The Chatbot's messages get what they lack: one that was answered can be reached and chosen by
# keyboard, the chosen one is marked, and nothing is named that has no role. A link's question is
# handed over, and whoever pressed a chip is taken to its section.
_AID = """
const column = element.closest('.column');  // the Chatbot itself may come later
const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
const scroll = (to) => to?.scrollIntoView({behavior: calm ? 'auto' : 'smooth', block: 'start'});
const mark = () => {
  column.querySelector('#chat .examples')?.removeAttribute('role');  // a list without items
  [...column.querySelectorAll('#chat .message-row')].forEach((row, place) => {
    const chosen = place === props.value.chosen;
    row.classList.toggle('chosen', chosen);
    [...row.querySelectorAll('[data-testid]')].forEach((part, i) => {
      if (!['user', 'bot'].includes(part.dataset.testid)) return;
      part.removeAttribute('aria-label');
      if (part.dataset.testid !== 'bot' || i) return;
      part.tabIndex = 0;
      part.setAttribute('role', 'button');
      part.setAttribute('aria-pressed', chosen);
      part.title = 'Show the evidence';
    });
  });
};
const news = {childList: true, subtree: true, attributeFilter: ['aria-label']};
new MutationObserver(mark).observe(column, news);
let number = props.value.number;
const when = (ready, act, tries = 60) => {
  const found = ready();
  if (found) act(found);
  else if (tries) setTimeout(() => when(ready, act, tries - 1), 50);
};
const go = {
  result: () => { if (window.innerWidth < 900) scroll(document.getElementById('result')); },
  why: () => when(() => document.querySelector('#why-explain:not(:disabled)'), (to) => to.click()),
  whatif: () => when(() => document.querySelector('#whatif-board .board'), (to) => {
    to.focus({preventScroll: true});
    scroll(document.getElementById('whatif'));
  }),
};
watch('value', () => {
  mark();
  if (props.value.number !== number) go[props.value.go]?.();
  number = props.value.number;
});
mark();
const asked = new URLSearchParams(location.search);
const link = {question: asked.get('question') ?? '', picture: asked.get('picture') ?? ''};
if (link.question || link.picture)
  setTimeout(() => trigger('select', {index: 0, value: link}), 0);
"""


def chatbot() -> gr.Chatbot:
    """The conversation; its value is `messages`."""
    return gr.Chatbot(
        label="Conversation",
        show_label=False,
        placeholder=_PLACEHOLDER,
        examples=[{"text": question, "display_text": f"{of}: {question}"} for of, question in TRY],
        height=420,
        editable="user",
        render_markdown=False,
        latex_delimiters=[],
        sanitize_html=True,
        allow_tags=False,
        allow_file_downloads=False,
        feedback_options=None,
        buttons=[],
        elem_id="chat",
    )


def aid() -> gr.HTML:
    """What the Chatbot lacks; its value is `pointing`. `select` hands over a link's question."""
    return gr.HTML(
        pointing(Conversation()),
        html_template="",
        js_on_load=_AID,
        apply_default_css=False,
        elem_id="chat-aid",
    )


def pointing(talk: Conversation, go: str = "") -> dict[str, Any]:
    """The value of `aid`: which message is chosen, and which section to go to if any.

    Args:
        talk: the conversation.
        go: "result" (on a phone), "why", "whatif", or nowhere.
    """
    return {"chosen": 2 * talk.chosen + 1, "go": go, "number": next(_NUMBERS)}


def place_of(index: Any, talk: Conversation) -> int | None:
    """Which turn a message of the Chatbot belongs to, by what the browser says; None if none."""
    place = index // 2 if isinstance(index, int) else -1
    return place if 0 <= place < len(talk.turns) else None


def messages(talk: Conversation) -> list[dict[str, Any]]:
    """The value of the Chatbot: two messages a turn, and what is being asked."""
    shown = []
    for place, turn in enumerate(talk.turns):
        newest = place == len(talk.turns) - 1 and talk.pending is None
        chips = [{"value": chip} for chip in chips_of(talk)] if newest else []
        shown += [
            {"role": "user", "content": _asked(turn, mid=place > 0)},
            {"role": "assistant", "content": _said(turn), "options": chips},
        ]
    if talk.pending:
        asked = safe(talk.pending.question) or "New picture"
        shown += [{"role": "user", "content": asked}, {"role": "assistant", "content": WAITS}]
    return shown


def chips_of(talk: Conversation) -> list[str]:
    """What to go on with after the newest turn."""
    grounds = talk.turns[-1].grounds
    further = [WHY, WHAT_IF] if grounds and grounds.asked else []
    return [*further, *talk.open[: CHIPS - bool(further)]]


def note(talk: Conversation) -> str:
    """What is to be said about the conversation as a whole; empty if nothing."""
    return f"Only the last {MAX_TURNS} turns are kept." if talk.dropped else ""


def example(place: Any) -> tuple[str, str]:
    """The path and the question of one of the conversations to begin with."""
    label, question = TRY[place]
    return str(next(each.path for each in EXAMPLES if each.label == label)), question


def safe(text: str) -> str:
    """Text that the Chatbot shows as it is: no tag and no entity begins in it."""
    return text.replace("<", f"<{_BREAKER}").replace("&", f"&{_BREAKER}")


def _asked(turn: Turn, *, mid: bool) -> list[Any]:
    if turn.kind != PICTURE:
        return [safe(turn.question)]
    label = f"New picture: {turn.question}" if mid else turn.question
    return [_image(turn, "picture"), safe(label)]


def _said(turn: Turn) -> list[Any]:
    if turn.kind == PICTURE:
        return [safe(turn.said)]
    small = [turn.sure, *turn.notes, turn.reaction]
    classes = "thumb reacts" if turn.reaction else "thumb"
    return [safe(turn.said), _image(turn, classes), *map(safe, filter(None, small))]


def _image(turn: Turn, classes: str) -> dict[str, Any]:
    value = f'<img class="{classes}" src="{turn.thumb}" alt="{html.escape(turn.alt)}">'
    props = {"html_template": "${value}", "apply_default_css": False}
    return {
        "type": "component",
        "component": "html",
        "value": value,
        "constructor_args": {},
        "props": props,
    }
