"""Who lives in the village, and what is true there. Pure data, one seed, no imports beyond `random`.

`FACTS[(relation, subject)] -> object` is the whole truth of this world: 20 animals and 20 people with three facts each.
Every list is a tuple in a fixed order and every draw goes through `random.Random(int)`, so the world is the same on every
machine and Python version.
"""
from __future__ import annotations

import random

ANIMALS = ("fox", "owl", "hedgehog", "hen", "goat", "otter", "badger", "crow", "hare", "mole",
           "frog", "duck", "cat", "dog", "mouse", "horse", "donkey", "goose", "squirrel", "snail")
WOMEN = ("Ada", "Cora", "Ella", "Greta", "Ida", "Kira", "Mina", "Olga", "Rosa", "Tess")
MEN = ("Ben", "Dan", "Finn", "Hugo", "Jon", "Leo", "Nils", "Paul", "Sam", "Willy")
PEOPLE = tuple(name for couple in zip(WOMEN, MEN, strict=True) for name in couple)
PLACES = ("mill", "bakery", "bridge", "well", "orchard", "pond", "market", "barn",
          "church", "meadow", "forest", "school", "harbour", "garden", "tower", "inn")
FOODS = ("plums", "nuts", "apples", "berries", "cherries", "beans", "carrots", "pears",
         "bread", "cheese", "corn", "mushrooms", "turnips", "cakes", "peas", "figs")
CROPS = ("beans", "carrots", "turnips", "peas", "corn")
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "grey", "brown", "orange", "purple")
THINGS = ("key", "hat", "lantern", "kite", "drum", "umbrella", "book", "basket", "scarf", "bell", "ladder", "whistle")
JOBS = ("baker", "miller", "teacher", "fisher", "farmer", "doctor", "smith", "tailor", "painter", "gardener", "actor", "sailor")
MOODS = ("cheerful", "gloomy", "calm")
NUMBERS = {"two": 2, "three": 3, "four": 4}

# relation: (subjects, objects, ways to say it, ways to ask for it)
RELATIONS = {
    "home": (ANIMALS, PLACES,
             ("The {s} lives near the {o}.", "The {s} has a home near the {o}.", "You can find the {s} near the {o}."),
             ("Where does the {s} live?", "Tell me where the {s} lives.", "Do you know where the {s} lives?")),
    "eats": (ANIMALS, FOODS,
             ("The {s} eats {o}.", "The {s} likes to eat {o}.", "The {s} eats {o} every day."),
             ("What does the {s} eat?", "Tell me what the {s} eats.", "Do you know what the {s} eats?")),
    "fears": (ANIMALS, ANIMALS,
              ("The {s} is afraid of the {o}.", "The {s} fears the {o}.", "The {s} runs away from the {o}."),
              ("Who is the {s} afraid of?", "Tell me who the {s} fears.", "Do you know who the {s} fears?")),
    "job": (PEOPLE, JOBS,
            ("{s} is {a} {o}.", "{s} works as {a} {o}.", "{s} is {a} {o} in the village."),
            ("What is the job of {s}?", "Tell me what {s} does for work.", "Do you know the job of {s}?")),
    "hat": (PEOPLE, COLOURS,
            ("{s} wears {a} {o} hat.", "{s} has {a} {o} hat.", "The hat of {s} is {o}."),
            ("What colour is the hat of {s}?", "Tell me the colour of the hat of {s}.", "Do you know which hat {s} wears?")),
    "friend": (PEOPLE, ANIMALS,
               ("The best friend of {s} is the {o}.", "{s} is best friends with the {o}.", "{s} loves the {o} most of all."),
               ("Who is the best friend of {s}?", "Tell me who the best friend of {s} is.", "Do you know the best friend of {s}?")),
}


def article(word: str) -> str:
    """The indefinite article of a village word: "an owl", "a hedgehog"."""
    return "an" if word[0] in "aeiou" else "a"


def _truth() -> dict[tuple[str, str], str]:
    rng, facts = random.Random(20), {}
    for relation, (subjects, objects, _, _) in RELATIONS.items():
        for subject in subjects:
            facts[relation, subject] = rng.choice([o for o in objects if o != subject])
    return facts


FACTS = _truth()


def false_object(relation: str, subject: str, rng: random.Random) -> str:
    """An object that makes the fact wrong."""
    objects = RELATIONS[relation][1]
    return rng.choice([o for o in objects if o not in (FACTS[relation, subject], subject)])


def statement(relation: str, subject: str, obj: str, form: int = 0) -> str:
    """One sentence that says `relation(subject) = obj`, true or not."""
    text = RELATIONS[relation][2][form].format(s=subject, o=obj, a=article(obj))
    return text[0].upper() + text[1:]


def question(relation: str, subject: str, form: int = 0) -> str:
    """One question for the object of `relation(subject)`."""
    return RELATIONS[relation][3][form].format(s=subject)
