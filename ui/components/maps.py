"""Maps over their pictures, as components that fade in the browser without asking the server.

As in `widgets`, nothing that a user or the model said goes into a template: where words of a
caption are shown, a script puts them into the page, as text.
"""

from __future__ import annotations

import gradio as gr
import numpy as np

from saliency import overlay
from ui.components.examples import data_uri

_LEGEND = (96, 8)  # pixels
_STACK = """
<div class="stack">
<img src="{{picture}}" alt="{{alt}}">
{{#if heat}}<img class="heat" src="{{heat}}" alt="{{words}}">{{/if}}
{{#if nothing}}<span class="nothing">no positive evidence</span>{{/if}}
</div>"""
_OPACITY = """
<label class="opacity"><span>Map opacity</span>
<input type="range" min="0" max="100" value="70">
<output>70%</output></label>"""
_FADE = """
const scope = element.closest('#why, #caption-result, #gaze-result') ?? element;
const fade = () => {
  const slider = element.querySelector('input');
  if (!slider) return;
  scope.style.setProperty('--heat', slider.value / 100);
  element.querySelector('output').textContent = slider.value + '%';
};
element.addEventListener('input', fade);
watch('value', fade);
fade();
"""
# What stands where nothing is yet: two lines of text and the end of its box follow.
_EYE = """<div class="empty">
<svg viewBox="0 0 96 56" width="96" aria-hidden="true">
<radialGradient id="iris"><stop stop-color="#fcffa4"/><stop offset="0.35" stop-color="#f98e09"/>
<stop offset="0.7" stop-color="#bc3754"/><stop offset="1" stop-color="#57106e"/></radialGradient>
<path d="M4 28Q48 -20 92 28Q48 76 4 28Z" fill="none" stroke="currentColor" stroke-width="3"/>
<circle cx="48" cy="28" r="15" fill="url(#iris)"/></svg>"""

_VIEW = (
    """
{{#if value}}
<figure>
{{#with value}}"""
    + _STACK
    + """{{/with}}
<figcaption>{{value.words}}{{#if value.trust}}<br>{{value.trust}}{{/if}}</figcaption>
</figure>
<div class="tools">
<span class="scale" aria-hidden="true">less <img src="{{legend}}" alt=""> more</span>
"""
    + _OPACITY
    + """
</div>
{{else}}
"""
    + _EYE
    + """
<strong>The evidence comes here</strong>
<p>For each answer: where the model looked, what else it thought of, which words counted, and
whether it holds when a part of the picture is hidden.</p>
</div>
{{/if}}"""
)
_SHOW = (
    _FADE
    + """
for (const id of ['note', 'result'])  // so that screen readers say what is new
  document.getElementById(id)?.setAttribute('aria-live', 'polite');"""
)

_FIGURE = (
    "{{#if value}}{{#with value}}<figure aria-live='off'>"
    + _STACK
    + "<figcaption>{{words}}</figcaption></figure>{{/with}}{{/if}}"
)
_CARDS = (
    """
{{#if value}}<ul aria-live="off">
{{#each value}}<li class="{{state}}"><figure>"""
    + _STACK
    + """
<figcaption><p class="head"><strong>{{label}}</strong> <span>{{seconds}}</span></p>
<p>{{words}}</p>
<p class="verdict">{{verdict}}</p></figcaption></figure></li>{{/each}}
</ul>{{/if}}"""
)
_TOOLS = (
    """
{{#if value}}<div class="tools" aria-live="off">
<div class="legends" aria-hidden="true">
{{#if value.plain}}<span class="scale">less <img src="{{plain}}" alt=""> more</span>{{/if}}
{{#if value.signed}}
<span class="scale">against <img src="{{signed}}" alt=""> for {{target}}</span>
{{/if}}
<span>{{value.note}}</span></div>
"""
    + _OPACITY
    + "</div>{{/if}}"
)

_STORY = (
    _EYE.replace("iris", "caption-iris")  # two of one name would share what one tab hides
    + """
<strong>Choose a picture to have it described</strong>
<p>The caption comes here word by word, with a map of where the model looked for each.</p>
</div>
<p class="whole" aria-live="polite"></p>
<div class="story" aria-live="off" hidden>
<p class="hint">The stronger its colour, the surer of the word. Choose one for its map, all on one
scale.</p>
<p class="doubt" hidden></p>
<div class="words" role="group" aria-label="The caption, word by word"></div>
<figure><div class="stack"><img class="picture" alt="The picture"><img class="heat" alt="" hidden>
<span class="nothing" hidden>no positive evidence</span></div>
<figcaption aria-live="polite"><p class="line"></p><p class="where"></p></figcaption></figure>
</div>"""
)
# A new story (another `number`) has its words appear one after the other, which the style sheet
# does, and asks for maps if it comes without; the same one again only has other maps.
_TELL = """
const find = (selector) => element.querySelector(selector);
const words = find('.words');
document.getElementById('caption-note')?.setAttribute('aria-live', 'polite');
let number, chosen = 0;
const choose = (place) => {
  const value = props.value, map = value.maps[place], shown = map && !value.waiting;
  chosen = place;
  [...words.children].forEach((word, i) => word.setAttribute('aria-pressed', i === place));
  const heat = find('.heat');
  heat.hidden = !(shown && map.heat);
  if (!heat.hidden) heat.src = map.heat;
  heat.alt = shown ? map.words : '';
  find('.nothing').hidden = !(shown && map.nothing);
  find('.line').textContent = shown ? map.line : value.words[place].line;
  find('.where').textContent = shown ? map.words : '';
};
const button = (word, place) => {
  const made = document.createElement('button');
  Object.assign(made, {type: 'button', textContent: word.text, title: word.title});
  made.setAttribute('aria-label', word.said);
  made.classList.toggle('given', word.given);
  made.style.setProperty('--probability', word.probability);
  made.style.setProperty('--place', place);
  return made;
};
const ask = (asking) => {
  if (number !== asking) return;
  // As long as there is "Cancel", maps are made, or are about to be stopped.
  if (document.getElementById('caption-cancel')) setTimeout(ask, 50, asking);
  else trigger('submit');
};
const tell = () => {
  const value = props.value;
  find('.empty').hidden = Boolean(value);
  find('.story').hidden = !value;
  if (!value) {
    find('.whole').textContent = '';
    number = undefined;
    return;
  }
  if (value.number === number) return choose(chosen);
  number = value.number;
  find('.whole').textContent = value.statement;
  find('.doubt').textContent = value.doubt;
  find('.doubt').hidden = !value.doubt;
  find('.picture').src = value.picture;
  words.replaceChildren(...value.words.map(button));
  choose(value.first);
  if (value.waiting) ask(number);
  if (window.innerWidth < 900)  // one column: the caption is further down
    setTimeout(() => document.getElementById('caption-result').scrollIntoView(), 300);
};
words.addEventListener('click', (event) => {
  const word = event.target.closest('button');
  if (word) choose([...words.children].indexOf(word));
});
words.addEventListener('keydown', (event) => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  const next = words.children[[...words.children].indexOf(event.target) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.click();
});
watch('value', tell);
tell();
"""
_CAPTIONS = """<div class="others" aria-live="off" hidden>
<h3></h3>
<ol></ol>
<p class="hint">Probabilities, as shares of these together. Their order also allows for length.</p>
</div>"""
_LIST = """
const make = (name, text) => {
  const made = document.createElement('span');
  made.className = name;
  made.textContent = text;
  return made;
};
const list = () => {
  const value = props.value || [];
  element.querySelector('.others').hidden = value.length < 2;
  element.querySelector('h3').textContent = `The ${value.length} best captions`;
  element.querySelector('ol').replaceChildren(...value.map((caption) => {
    const line = document.createElement('li'), bar = make('bar', '');
    bar.style.setProperty('--share', caption.share);
    line.append(make('text', caption.text), bar, make('share', caption.percent));
    return line;
  }));
};
watch('value', list);
list();
"""


def view() -> gr.HTML:
    """Where the model looked, with a slider for the opacity; its value is `panel.layers`."""
    return _html(_VIEW, _SHOW, "view", legend=_ramp())


def figure() -> gr.HTML:
    """One map over its picture with its words below; its value is `evidence.figure`."""
    return _html(_FIGURE, None)


def cards(elem_id: str) -> gr.HTML:
    """A map a method, side by side; its value is a list of `evidence.card`."""
    return _html(_CARDS, None, elem_id)


def tools(elem_id: str, target: str = "the answer") -> gr.HTML:
    """The legend and the slider of all maps of a section, which explain such a target.

    Its value tells which legends to show: "plain", "signed", and a "note" in words; None for none.
    """
    legends = {"plain": _ramp(), "signed": _ramp(signed=True)}
    return _html(_TOOLS, _FADE, elem_id, target=target, **legends)


def story(elem_id: str) -> gr.HTML:
    """A caption and the map of the word that is chosen; its value is `words.telling`.

    Its event `submit` asks for maps that a new caption comes without.
    """
    return _html(_STORY, _TELL, elem_id)


def captions(elem_id: str) -> gr.HTML:
    """The best captions as a list; its value is `words.ranked`."""
    return _html(_CAPTIONS, _LIST, elem_id)


def _html(template: str, script: str | None, elem_id: str | None = None, **given: str) -> gr.HTML:
    for name, text in given.items():  # as props, gradio loses them while a section is hidden
        template = template.replace(f"{{{{{name}}}}}", text)
    return gr.HTML(
        html_template=template,
        js_on_load=script,
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="maps",
    )


def _ramp(*, signed: bool = False) -> str:
    values = np.linspace(-1 if signed else 0, 1, 64)[None]
    return data_uri(overlay.heat(values, _LEGEND, signed=signed), "PNG")
