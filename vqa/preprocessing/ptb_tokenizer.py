"""Cut captions into the words that the COCO evaluation compares, without its Java.

The COCO caption evaluation (Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation
Server", 2015) runs the Stanford tokeniser of the Penn Treebank, lower-cases, and drops punctuation.
Here are its rules as far as captions need them: at every place the rule that reaches furthest wins,
counting what it only looks at, and among equals the first.
"""

from __future__ import annotations

import re
import unicodedata

# What the evaluation drops: its list, as it is written there. The brackets' names come
# lower-cased out of the tokeniser and the list has them in capitals, so they stay, here as there.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"'])

_NAMES = str.maketrans(
    {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
)
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b\u2039\u203a", "'"),  # single quotes
        **dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"'),  # double quotes
        **dict.fromkeys("\u2013\u2014\u2015\u2026", " "),  # dashes and the ellipsis: dropped anyway
        **dict.fromkeys("\u200b\u200e\u200f\ufeff", " "),  # zero width, and yet between words
        "\u00ad": "",  # soft hyphen
        "\u00a3": " # ",  # the Treebank writes pounds so
        "\u20ac": " $ ",
        "\u00a2": " cents ",
        "\u00bc": " 1/4 ",
        "\u00bd": " 1/2 ",
        "\u00be": " 3/4 ",
    }
)

# Marks that belong to the letter before, which `re` does not count as letters: accents that stand
# alone, Hebrew and Arabic points, the vowel signs of India, Thailand and Laos.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0900-\u0963\u0970-\u0dff\u0e30-\u0e4e\u0eb1-\u0ecd"
)
_LETTER = rf"(?:[^\W\d_]|[{_MARKS}])"
_SIGN = rf"(?:[^\W_]|[{_MARKS}])"  # a letter or a digit
_WORD = rf"{_LETTER}{_SIGN}*(?:[.!?]{_LETTER}{_SIGN}*)*"  # a missing space does not part "end.The"
_CLITIC = r"'(?:[msd]|re|ve|ll)"
_PART = rf"(?:[dol]'{_SIGN})?{_SIGN}+"  # o'clock, d'art
_SIDE = r"[a-z0-9]+(?:-[a-z]+){0,2}"  # of a slash
_ABBREVIATIONS = "|".join(
    (
        "mr|mrs|ms|miss|drs?|profs?|sens?|reps?|lt|col|gen|govs?|adm|rev|maj|sgt|cpl|pvt|mt|capt",
        "ste?|ave|pres|hon|jr|sr|bros|ph\\.d|ed\\.d|blvd|rd|esq|inc|cos?|corp|ltd|dept|univ|intl",
        "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri|calif|colo|conn",
        "fla|ga|ill|ind|kans?|mass|mich|minn|mont|okla|ore|penn|tenn|tex|wash|wisc?|prop|tel",
        "est|ext|sq|ft|etc|al|seq|vs|alex|wm|cf",
    )
)
_APOSTROPHES = (
    r"'n'?|'em|'till?|'cause|'[2-9]0s|[ldj]'|ol'|dunkin'|somethin'|c'mon|e'er|s'mores|ev'ry|li'l"
    r"|nat'l|nor'easter|cont'd\.?|'twas"
)
# Group 1 is the token; what follows it in a pattern is only looked at.
_RULES = [
    re.compile(rule)
    for rule in (
        r"(?i:(can)not|(gon)na|(got)ta|(wan)na|(lem)me|(gim)me|('t)(?:is|was))",
        rf"(?i:({_WORD}){_CLITIC})",
        r"(?i:([a-z]*[a-mo-z])n't)",
        rf"({_WORD})",
        rf"(?i:({_APOSTROPHES}))",
        rf"([A-HJ-XZn]'{_LETTER}{{2,}})",
        rf"({_LETTER}+[aeiouyAEIOUY]'[aeiouA-Z]{_LETTER}*)",
        rf"([yY]'){_LETTER}",
        r"(https?://[^\s\"<>|()]+[^\s\"<>|.!?(){},-])",
        r"([A-Za-z0-9][^\s\"<>|()@]*@[^\s\"<>|().@]+(?:\.[^\s\"<>|().@]+)*)",
        rf"(@[A-Za-z_]\w*|#{_LETTER}+)",
        rf"(?i:({_CLITIC})[^a-z])",
        r"(?i:(n't))",
        r"(\d{1,2}[-/]\d{1,2}[-/]\d{2,4})",
        r"([-+]?(?:\d*(?:[.:,]\d+)+|\d+))",
        rf"(?i:({_SIDE}(?:/{_SIDE}){{1,2}}))",
        r"([A-Z]*\$)",
        rf"(?i:((?:{_ABBREVIATIONS})\.))",
        r"(?i:([a-z](?:\.[a-z])*\.))",
        r"('\d\d)\s",
        rf"({_WORD}\.)[,;:]",
        r"(-+|[?!]+|\*+|@+|\#+|_+|\.{3,5})",
        r"([A-Za-z0-9][A-Za-z0-9.,]*(?:-[A-Za-z0-9]+)+)",
        rf"(?i:({_PART}(?:[-_\u2010\u2011]{_PART})*))",
        r"([A-Z]+(?:[+&][A-Z]+)+)",
        r"(')[A-Za-z]\S",
        rf"(?i:({_CLITIC}))",
        r"([<>]?[:;=][-o*']?[()DPdpO\\{|\[\]])(?!\w)",  # :)
        r"('{1,2}|`{1,2})",
        r"(.)",
    )
]
_LONG = re.compile(r"-{3,4}|\.{4,5}")  # other spellings of -- and ..., which are dropped
_SPLIT = frozenset(["cannot", "gonna", "gotta", "wanna", "lemme", "gimme"])


def ptb_tokenize(text: str) -> list[str]:
    """Split a caption into lower-case tokens, as the COCO evaluation does.

    Clitics stand alone (`is n't`, `dog 's`, `can not`); words with a hyphen, numbers (`2.5`) and
    abbreviations with their full stop (`mr.`, `p.m.`) stay whole; lone punctuation and quotes go.
    Brackets stay as `-lrb-`, `-rrb-` and so on, and a run such as `!!` stays too: the evaluation's
    list of what to drop does not match them.

    Known differences: telephone numbers, markup (`<b>`) and entities (but `&amp;`) are cut up;
    fewer abbreviations of companies and states; a single letter keeps its full stop whatever
    the next word is, and `no. 5` loses it.

    Args:
        text: a caption; any Unicode.

    Returns:
        The tokens in order, none if only punctuation was there.
    """
    tokens = []
    for chunk in text.replace("&amp;", "&").translate(_PLAIN).split():
        # Nearly every word of a caption is plain, and thirty rules are slow.
        if chunk.isascii() and chunk.isalpha() and chunk.lower() not in _SPLIT:
            tokens.append(chunk.lower())
        else:
            tokens += _scan(chunk)
    return tokens


def _scan(chunk: str) -> list[str]:
    """Cut what stands between two spaces into tokens."""
    tokens, place, text = [], 0, chunk + " "
    while place < len(chunk):
        matches = [match for rule in _RULES if (match := rule.match(text, place))]
        longest = max(matches, key=re.Match.end)  # among equals, the first
        token = next(group for group in longest.groups() if group)
        place += len(token)
        if token not in PUNCTUATION and not _LONG.fullmatch(token) and _is_kept(token):
            tokens.append(token.lower().translate(_NAMES))
    return tokens


def _is_kept(token: str) -> bool:
    """Tell whether the tokeniser knows the character: not emoji, nor what cannot be seen alone."""
    if len(token) > 1 or token.isalnum():
        return True
    return ord(token) <= 0xFFFF and unicodedata.category(token)[0] not in "CM"
