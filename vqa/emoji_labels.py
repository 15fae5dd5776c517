"""Emoji for labels that are words."""

from __future__ import annotations

EMOJI = {  # for labels that are words
    "admiration": "👏", "amusement": "😂", "anger": "😠", "annoyance": "🙄", "approval": "👍",
    "caring": "🤗", "confusion": "😕", "curiosity": "🤔", "desire": "😍", "disappointment": "😞",
    "disapproval": "👎", "disgust": "🤢", "embarrassment": "😳", "excitement": "🤩", "fear": "😨",
    "gratitude": "🙏", "grief": "😭", "joy": "😄", "love": "❤️", "nervousness": "😬",
    "optimism": "🌞", "pride": "😌", "realization": "💡", "relief": "😮‍💨", "remorse": "😔",
    "sadness": "😢", "surprise": "😮", "neutral": "😐",
}  # fmt: skip
UNKNOWN = "💬"  # for a word that is none of these


def emoji_of(label: str) -> str:
    """The emoji of a label: its own if it is one."""
    if not any(character.isalnum() for character in label):
        return label
    return EMOJI.get(label.lower(), UNKNOWN)
