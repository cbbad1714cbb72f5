"""Short spoken commands, numbers, letters and dates, composed from templates by a seeded generator.

Captions and book sentences hold few digits, letters or commands, and those are what people say to machines.
"""

import random
from collections.abc import Callable, Iterator

from .text import spoken_digits, spoken_number

_LETTERS = "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z".split()
_MONTHS = "January February March April May June July August September October November December".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth "
    "seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth twenty-fifth twenty-sixth "
    "twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
).split()
_ROOMS = "kitchen bedroom bathroom living-room garage hall office garden cellar attic".split()
_THINGS = "light lights heating fan radio television alarm music camera door window blinds oven".split()
_PEOPLE = "mom dad Anna Peter John Mary Susan David Michael Sarah Tom Julia Robert Linda my-brother my-sister the-office the-doctor".split()
_PLACES = "London Paris Boston Berlin Chicago Dublin Sydney Toronto Madrid the-airport the-station the-harbor home work".split()
_GREETINGS = ["Hello", "Good morning", "Good evening", "Thank you", "Thanks a lot", "Please hold on", "Sorry", "Excuse me", "Yes please"]
_REQUESTS = ["can you help me", "who is speaking", "I will call back later", "please say that again", "I did not understand", "go ahead"]
_ACTIONS = ["hear more options", "speak to an agent", "change your address", "pay a bill", "cancel the order", "start over", "leave a note"]
_ORDERS = ["Stop the {}", "Start the {}", "Turn on the {}", "Turn off the {}", "Is the {} on", "Check the {}"]


def _digits(rng: random.Random) -> str:
    return spoken_digits("".join(rng.choices("0123456789", k=rng.randint(1, 5)))).capitalize() + "."


def _spelling(rng: random.Random) -> str:
    return " ".join(rng.choices(_LETTERS, k=rng.randint(1, 5))) + "."


def _number(rng: random.Random) -> str:
    top = rng.choice([100, 1000, 10_000, 1_000_000])
    unit = rng.choice(["", "", " dollars", " euros", " percent", " miles", " minutes", " degrees", " people"])
    return spoken_number(rng.randrange(2, top)).capitalize() + unit + "."


def _date(rng: random.Random) -> str:
    day = f"{rng.choice(_MONTHS)} {rng.choice(_ORDINALS)}"
    year = f"{spoken_number(rng.choice([18, 19, 20]))} {spoken_number(rng.randrange(10, 100))}"
    return rng.choice(
        [f"{day}.", f"{rng.choice(_DAYS)}, {day}.", f"{day}, {year}.", f"It was {rng.choice(_DAYS)} the {rng.choice(_ORDINALS)}."]
    )


def _time(rng: random.Random) -> str:
    hour, minute = spoken_number(rng.randint(1, 12)), spoken_number(rng.choice([10, 15, 20, 25, 30, 40, 45, 50]))
    when = rng.choice([f"{hour} {minute}", f"{hour} o'clock", f"half past {hour}", f"a quarter to {hour}"])
    frame = rng.choice(["It is {}.", "Wake me up at {}.", "The train leaves at {}.", "Meet me at {}.", "Set an alarm for {}."])
    return frame.format(when)


def _command(rng: random.Random) -> str:
    order = rng.choice(_ORDERS).format(rng.choice(_THINGS))
    return rng.choice([f"{order}.", f"{order} in the {rng.choice(_ROOMS)}.", f"Please {order[0].lower()}{order[1:]} now."])


def _call(rng: random.Random) -> str:
    person, place = rng.choice(_PEOPLE), rng.choice(_PLACES)
    frame = rng.choice(
        ["Call {p}.", "Send a message to {p}.", "How far is {q}?", "Take me to {q}.", "What is the weather in {q}?", "Is {p} in {q}?"]
    )
    return frame.format(p=person, q=place).replace("-", " ")


def _menu(rng: random.Random) -> str:
    key = spoken_digits(str(rng.randrange(10)))
    return rng.choice([f"Press {key} to {rng.choice(_ACTIONS)}.", f"To {rng.choice(_ACTIONS)}, press {key} now.", f"Option {key}."])


def _politeness(rng: random.Random) -> str:
    return f"{rng.choice(_GREETINGS)}, {rng.choice([*_REQUESTS, *_PEOPLE])}.".replace("-", " ")


_KINDS: list[tuple[Callable[[random.Random], str], float]] = [
    (_digits, 5), (_spelling, 2), (_number, 3), (_date, 3), (_time, 2), (_command, 2), (_call, 2), (_menu, 1), (_politeness, 1),
]  # fmt: skip


def prompts(seed: int) -> Iterator[str]:
    """Endless short utterances, written as they are spoken; the same seed gives the same ones. Repeats occur."""
    rng = random.Random(seed)  # noqa: S311
    makers, weights = zip(*_KINDS, strict=True)
    while True:
        yield rng.choices(makers, weights)[0](rng)
