"""How the page looks: colours, type, and the style sheet. The fonts come with gradio."""

from __future__ import annotations

import base64
from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

from vqa.metrics.confusion_plot import FONT

STYLE = Path(__file__).with_name("style.css")
TITLE = "SeeWhy"
SUBTITLE = "Ask a picture a question. Get an answer, and see where the model looked."
# The one accent is the map's own violet, so that page and map belong together.
_PLUM = colors.Color(
    name="plum",
    c50="#faf5fc",
    c100="#f3e8f8",
    c200="#e6d0f0",
    c300="#d1abe2",
    c400="#b981d3",
    c500="#9550b5",
    c600="#7a3499",
    c700="#65297f",
    c800="#552468",
    c900="#461f55",
    c950="#2c0b38",
)
_EMOJI = "SeeWhy Emoji"
# A choice of a few, as white as a box to type in.
_CHOICE = {
    "checkbox_border_color": "#8f8984",
    "checkbox_border_color_dark": "*neutral_500",
    "checkbox_label_background_fill": "white",
    "checkbox_label_background_fill_dark": "*neutral_900",
    "checkbox_label_background_fill_hover": "white",
    "checkbox_label_background_fill_hover_dark": "*neutral_900",
    "checkbox_label_border_width": "1px",
    "checkbox_label_border_color": "*neutral_300",
    "checkbox_label_border_color_dark": "*neutral_700",
    "checkbox_background_color_selected": "*primary_600",
    "checkbox_background_color_selected_dark": "*primary_400",
    "checkbox_border_color_selected": "*primary_600",
    "checkbox_border_color_selected_dark": "*primary_400",
}


def theme() -> gr.themes.Base:
    """The page's theme, light and dark."""
    # Bold, not the semi-bold of other themes: gradio's semi-bold file of this font has no letters.
    base = gr.themes.Base(
        primary_hue=_PLUM,
        secondary_hue=_PLUM,
        neutral_hue=colors.stone,
        radius_size=sizes.radius_lg,
        font=(
            fonts.LocalFont("IBM Plex Sans", weights=(400, 700)),
            _EMOJI,
            "system-ui",
            "sans-serif",
        ),
        font_mono=(fonts.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"),
    )
    return base.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_shadow="none",
        block_label_background_fill="white",
        block_label_background_fill_dark="*neutral_900",
        block_label_border_width="0px",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_400",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_400",
        block_title_text_weight="400",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_color="#8f8984",
        input_border_color_dark="*neutral_500",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        border_color_primary="*neutral_300",
        border_color_primary_dark="*neutral_700",
        stat_background_fill="*primary_600",
        stat_background_fill_dark="*primary_400",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        **_CHOICE,
    )


def emoji_font() -> str:
    """Style that brings the emoji of the models' labels, alike on every machine."""
    content = base64.b64encode(FONT.read_bytes()).decode()
    source = f'url("data:font/ttf;base64,{content}") format("truetype")'
    return f'@font-face {{ font-family: "{_EMOJI}"; src: {source}; }}'
