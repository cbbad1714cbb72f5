"""Short spoken commands, numbers, letters and dates, composed from templates by a seeded generator.

Captions and book sentences hold few digits, letters or commands, and those are what people say to machines.
"""

import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from .text import spoken_digits, spoken_number

_WORDS: dict[str, list[str]] = yaml.safe_load((Path(__file__).parent / "conf/prompts-en.yaml").read_text(encoding="utf-8"))


def _digits(rng: random.Random) -> str:
    return spoken_digits("".join(rng.choices("0123456789", k=rng.randint(1, 5)))).capitalize() + "."


def _spelling(rng: random.Random) -> str:
    return " ".join(rng.choices(string.ascii_uppercase, k=rng.randint(1, 5))) + "."


def _number(rng: random.Random) -> str:
    top = rng.choice([100, 1000, 10_000, 1_000_000])
    unit = rng.choice(["", "", " dollars", " euros", " percent", " miles", " minutes", " degrees", " people"])
    return spoken_number(rng.randrange(2, top)).capitalize() + unit + "."


def _date(rng: random.Random) -> str:
    day = f"{rng.choice(_WORDS['months'])} {rng.choice(_WORDS['ordinals'])}"
    year = f"{spoken_number(rng.choice([18, 19, 20]))} {spoken_number(rng.randrange(10, 100))}"
    return rng.choice(
        [
            f"{day}.",
            f"{rng.choice(_WORDS['days'])}, {day}.",
            f"{day}, {year}.",
            f"It was {rng.choice(_WORDS['days'])} the {rng.choice(_WORDS['ordinals'])}.",
        ]
    )


def _time(rng: random.Random) -> str:
    hour, minute = spoken_number(rng.randint(1, 12)), spoken_number(rng.choice([10, 15, 20, 25, 30, 40, 45, 50]))
    when = rng.choice([f"{hour} {minute}", f"{hour} o'clock", f"half past {hour}", f"a quarter to {hour}"])
    frame = rng.choice(["It is {}.", "Wake me up at {}.", "The train leaves at {}.", "Meet me at {}.", "Set an alarm for {}."])
    return frame.format(when)


def _command(rng: random.Random) -> str:
    order = rng.choice(_WORDS["orders"]).format(rng.choice(_WORDS["things"]))
    return rng.choice([f"{order}.", f"{order} in the {rng.choice(_WORDS['rooms'])}.", f"Please {order[0].lower()}{order[1:]} now."])


def _call(rng: random.Random) -> str:
    person, place = rng.choice(_WORDS["people"]), rng.choice(_WORDS["places"])
    frame = rng.choice(
        ["Call {p}.", "Send a message to {p}.", "How far is {q}?", "Take me to {q}.", "What is the weather in {q}?", "Is {p} in {q}?"]
    )
    return frame.format(p=person, q=place).replace("-", " ")


def _menu(rng: random.Random) -> str:
    key = spoken_digits(str(rng.randrange(10)))
    return rng.choice(
        [f"Press {key} to {rng.choice(_WORDS['actions'])}.", f"To {rng.choice(_WORDS['actions'])}, press {key} now.", f"Option {key}."]
    )


def _politeness(rng: random.Random) -> str:
    return f"{rng.choice(_WORDS['greetings'])}, {rng.choice([*_WORDS['requests'], *_WORDS['people']])}.".replace("-", " ")


_KINDS: list[tuple[Callable[[random.Random], str], float]] = [
    (_digits, 5), (_spelling, 2), (_number, 3), (_date, 3), (_time, 2), (_command, 2), (_call, 2), (_menu, 1), (_politeness, 1),
]  # fmt: skip


def prompts(seed: int) -> Iterator[str]:
    """Endless short utterances, written as they are spoken; the same seed gives the same ones. Repeats occur."""
    rng = random.Random(seed)  # noqa: S311
    makers, weights = zip(*_KINDS, strict=True)
    while True:
        yield rng.choices(makers, weights)[0](rng)
