"""Lists of words for `caption_questions`."""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ARTICLES = _set("a an the")
COLOURS = _set("black white red blue green yellow brown orange pink purple gray grey tan")
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
PLACES = _set(
    "beach street road park field grass water ocean sea lake river pool snow sand forest woods yard"
    " kitchen bathroom bedroom room restaurant bench couch bed table court stage track sidewalk"
    " mountain hill building city market airport station zoo"
)
TAKES = _set(  # activities that ask "what?"
    "holding riding wearing eating throwing catching carrying pulling chasing using kicking pushing"
    " hitting drinking reading cutting flying swinging"
)
STOPS = (
    ARTICLES
    | NUMBERS.keys()
    | _set(
        "and or with in on at of to from by for into onto over under near next beside behind while"
        " as is are was that who which it its his her their him them he she they there this these"
        " through across down up along around off out against between inside outside above below"
        " two some several many other another one each something someone very"
    )
)
NOT_NOUNS = _set(
    "front back side top middle background foreground air one other day lot couple group bunch pair"
    " picture photo image close view left right edge end kind type something someone area number"
    " full high nearby toward upside whilst scene line row set shot show piece display corner"
    " bottom distance has does closeup body object surface place spot head face hand hands"
)
ANIMATE_THINGS = _set(
    "dog dogs puppy cat cats kitten horse horses bird birds cow cows sheep elephant elephants zebra"
    " zebras giraffe giraffes bear bears duck ducks train bus plane airplane"
)
BACKGROUND = _set(  # things that are there without being said: no question is asked about them
    "sky wall ground floor tree trees building buildings grass sun window windows door table chair"
    " shirt hat cap shoes pants jeans jacket coat dress skirt sweater clothes outfit uniform vest"
    " collar leash suit adult animal outdoors structure object trick stunt turn flip event game"
)
UNCOUNTED = _set("water snow grass sand ice food fire rain traffic luggage fruit")
NO_ACTS = _set(  # that end like one, or are none without what they act on
    "during evening morning clothing building railing wedding ceiling matching including according"
    " crossing landing painting wearing holding carrying using having nothing something anything"
    " everything"
)
PEOPLE = _set(
    "man men woman women boy boys girl girls person people child children kid kids guy guys lady"
    " player players baby toddler couple crowd team rider skateboarder surfer biker cyclist"
)
ALIKE: tuple[frozenset[str], ...] = tuple(  # where one is said, another may be true
    _set(words)
    for words in (
        " ".join(PEOPLE),
        "dog dogs puppy puppies animal animals",
        "cat cats kitten animal animals",
        "bike bicycle motorcycle motorbike bikes dirtbike scooter",
        "car cars truck van vehicle suv taxi",
        "bus train vehicle",
        "water ocean sea lake river pool wave waves beach stream pond",
        "grass field park yard lawn meadow hill",
        "street road sidewalk city path track",
        "mountain hill cliff rock rocks mountains",
        "table desk counter",
        "couch sofa chair bench seat",
        "building house wall",
        "snow ice slope mountain",
        "ball football baseball soccer basketball tennis frisbee toy",
        "food plate bowl dish meal pizza sandwich cake",
        "shirt jacket coat dress clothes suit sweater uniform",
        "hat cap helmet",
        "tree trees forest woods bush",
        "running jogging racing chasing walking playing jumping leaping going moving",
        "standing posing waiting looking watching leaning",
        "sitting resting lying laying relaxing",
        "holding carrying wearing using",
        "riding driving biking racing going",
        "swimming playing splashing surfing",
        "climbing hiking walking",
        "talking laughing smiling looking",
        "orange red brown tan",
        "gray grey silver white black",
    )
)
TOO_VAGUE = _set("playing going being getting doing making taking looking")
PLURAL = _set("men women people children")
