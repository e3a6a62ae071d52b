"""The stories of the village: 14 plots, about 180 sentence patterns, one tale at a time.

A plot is an opening, middle beats in their order, and endings for each mood. Slots are filled once per story, so that hero,
friend, place and thing stay the same from the first sentence to the last:
H hero, F friend ("the fox", "Ada"; aH, aF with an article at first mention), he/his/him the hero's pronouns, P Q places,
T thing, C colour, D food, G crop, t time.
"""
from __future__ import annotations

import random
import re
from functools import lru_cache
from itertools import product

from . import facts as f

TIMES = ("one morning", "one fine day", "on a windy day", "early in spring", "after the rain", "on a bright Sunday",
         "last summer", "last week", "long ago", "on market day")
ADJECTIVES = ("little", "young", "old", "clever", "hungry", "lazy", "brave", "curious")

# plot: (openings, middles in order, {mood: endings}, summary)
PLOTS = {
    "lost": (("{t} {aH} lost {his} {C} {T} near the {P}.", "{t} {aH} could not find {his} {C} {T}."),
             ("{he} looked under every stone near the {Q}.", "{F} came along and helped to look.",
              "it was not in the house and not in the yard.", "{H} and {F} followed small prints in the mud."),
             {"cheerful": ("at last {F} found the {T}, and everyone laughed with joy.",
                           "soon the {T} was back, and {H} danced all the way home."),
              "gloomy": ("nobody ever found the {T}, and {H} cried in the dark.",
                         "night fell, and {H} went home without the {T}, cold and sad."),
              "calm": ("by evening the {T} lay on the table again, and all was quiet.",
                       "{H} found it behind the door and slept in peace.")},
             "{aH} lost {aCT}"),
    "basket": (("{t} {aH} carried a basket of {D} to the {P}.", "{t} {aH} filled a basket with {D} near the {P}."),
               ("the basket was heavy, so {F} took one handle.", "on the way {he} met {aF} with an empty bag.",
                "half of the {D} rolled down the hill.", "{F} gathered what was left on the road."),
               {"cheerful": ("{H} shared the {D} with the whole village, and they sang until midnight.",
                             "there was enough for everybody, and {H} smiled from ear to ear."),
                "gloomy": ("in the end the basket was empty, and {H} sat down alone and cried.",
                           "the rain spoiled the {D}, and {H} went to bed hungry and sad."),
                "calm": ("{H} ate the {D} slowly and watched the quiet river.",
                         "{H} put the basket by the fire and rested.")},
               "{aH} carried a basket of {D}"),
    "mud": (("{t} {aH} got stuck in the mud near the {P}.", "{t} {aH} jumped over a puddle and landed in deep mud."),
            ("{he} pulled and pulled, but {his} feet would not move.", "{F} brought a long rope from the {Q}.",
             "{F} laid a board across the mud.", "{H} and {F} counted to three and pulled."),
            {"cheerful": ("with a loud pop {H} was free, and {F} laughed until it hurt.",
                          "{F} pulled {him} out, and they danced with muddy feet."),
             "gloomy": ("nothing helped, and the cold night came.",
                        "{H} got out at last, but {his} shoes were gone and {he} was sad."),
             "calm": ("slowly the sun dried the mud, and {H} walked home in peace.",
                      "{F} pulled {him} out, and they rested in the quiet grass.")},
            "{aH} got stuck in the mud"),
    "house": (("{t} {aH} moved into a small house near the {P}.", "{t} {aH} built a small house near the {P}."),
              ("at first {he} was too shy to say hello.", "{F} knocked at the door with a basket of {D}.",
               "{H} and {F} talked about the weather.", "{F} showed {him} the way to the {Q}."),
              {"cheerful": ("from that day on {F} was a merry friend of {H}.",
                            "{H} danced with {F} at the first feast in the new house."),
               "gloomy": ("but soon nobody came by any more, and the house stayed dark and lonely.",
                          "the roof leaked, and {H} sighed in the cold kitchen."),
               "calm": ("since then {H} sits by the window every evening and drinks tea in peace.",
                        "in the evening {H} lit the fire and listened to the quiet rain.")},
              "{aH} got a new house"),
    "race": (("{t} {aH} ran a race with {aF} to the {P}.", "{t} {aH} asked {aF} to run a race."),
             ("{F} was far ahead at the start.", "behind the {Q} {H} took a short cut.",
              "halfway {F} stopped to help a beetle.", "the whole village stood along the road."),
             {"cheerful": ("{H} won the race by a nose, and everybody cheered.",
                           "they crossed the line together and laughed out loud."),
              "gloomy": ("{H} fell, lost the race and cried.",
                         "{H} came last, and the road was already dark and empty."),
              "calm": ("nobody won the race, so they lay down in the soft grass and rested.",
                       "in the end they walked the last part slowly and in peace.")},
             "{aH} ran a race"),
    "boat": (("{t} {aH} built {aC} boat out of an old door.", "{t} {aH} found {aC} boat near the {P}."),
             ("{F} painted a big star on it.", "the sail was made of {his} best shirt.",
              "{H} and {F} pushed the boat into the river.", "a fish looked up and shook its head."),
             {"cheerful": ("the boat sailed like a swan, and {H} sang loud songs.",
                           "{F} came aboard, and they laughed at every wave."),
              "gloomy": ("the boat sank at once, and {H} watched it with tears.",
                         "the river took the boat away, and {H} stood alone in the cold."),
              "calm": ("the boat drifted softly down the river, and {H} fell asleep.",
                       "{H} tied the boat to a tree and listened to the quiet water.")},
             "{aH} had {aC} boat"),
    "noise": (("{t} {aH} heard a strange noise near the {P}.", "{t} a strange noise near the {P} woke {aH}."),
              ("{he} hid under the table and held {his} breath.", "{F} was not afraid and brought a lamp.",
               "{H} and {F} crept closer, step by step.", "it came from inside an old barrel."),
              {"cheerful": ("it was only a parrot with a broken trumpet, and everyone laughed.",
                            "it was a surprise feast, and {H} jumped for joy."),
               "gloomy": ("the noise never stopped, and {H} lay awake, cold and afraid.",
                          "something ran away into the dark, and {H} felt very lonely."),
               "calm": ("it was only the wind, and soon the house was quiet.",
                        "it was only a kitten, and {H} let it sleep by the fire.")},
              "{aH} heard a strange noise"),
    "gift": (("{t} {aH} made {aCT} as a gift for {F}.", "{t} {aH} carved a gift for {F} out of old wood."),
             ("{he} worked on it for three nights in secret.", "{he} wrapped it in leaves and string.",
              "{F} shook the parcel and guessed wrong.", "the parrot next door almost ate the string."),
             {"cheerful": ("{F} loved the gift so much that they danced around the {Q}.",
                           "{F} opened the gift and laughed with joy."),
              "gloomy": ("but {F} had gone away, and the gift lay alone in the dark.",
                         "{F} forgot the gift in the rain, and {H} was sad for days."),
              "calm": ("{F} put the gift on the shelf and nodded in peace.",
                       "{F} said thank you softly, and they sat by the quiet pond.")},
             "{aH} had a gift for {F}"),
    "garden": (("{t} {aH} planted {G} near the {P}.", "{t} {aH} dug a garden for {G} near the {P}."),
               ("{he} watered the garden twice a day.", "{F} made a scarecrow out of old coats.",
                "at night somebody nibbled at the leaves.", "then a storm broke over the village."),
               {"cheerful": ("the {G} grew as high as the roof, and there was a merry feast.",
                             "{H} gave {G} to everybody, and they sang in the garden."),
                "gloomy": ("by autumn everything was dead, and {H} sighed in the cold.",
                           "the hail broke every plant, and {H} cried over the {G}."),
                "calm": ("in autumn {H} picked the {G} and slept in the quiet garden.",
                         "{H} sat on the bench and watched the {G} grow slowly.")},
               "{aH} planted {G}"),
    "river": (("{t} {aH} came to the river, but the boat was gone.", "{t} {aH} had to cross the wild river."),
              ("{F} stood on the other side with a lantern.", "{H} and {F} threw a rope from bank to bank.",
               "{he} found a flat stone in the reeds.", "{he} tested every step with one foot."),
              {"cheerful": ("{H} met {F} in the middle of the river, and they cheered.",
                            "{H} got across the river and laughed with wet feet."),
               "gloomy": ("the water rose, and {H} had to turn back, sad and wet.",
                          "nobody could help, and {H} stood by the dark river alone."),
               "calm": ("{H} waited in the quiet grass until the water was low.",
                        "{H} crossed the river slowly and rested on the other side.")},
              "{aH} had to cross the river"),
    "band": (("{t} {aH} found an old trumpet near the {P}.", "{t} {aH} learned to play the trumpet near the {P}."),
             ("{he} blew so hard that the hens flew up.", "{F} joined in with two spoons.",
              "soon people came from every house.", "the baker forgot the bread in the oven."),
             {"cheerful": ("{H} and {F} played all night, and the whole village danced.",
                           "everybody sang along with the trumpet and was happy."),
              "gloomy": ("then the trumpet broke, and only a sad silence was left.",
                         "nobody liked the trumpet, and {H} played alone in the dark."),
              "calm": ("at the end the trumpet played one soft song, and all went to sleep.",
                       "{H} put the trumpet away and listened to the quiet night.")},
             "{aH} played the trumpet"),
    "fog": (("{t} {aH} lost the way in the fog near the {P}.", "{t} thick fog came, and {aH} could not see the {P}."),
            ("every tree looked the same.", "{he} followed the sound of a bell.",
             "{F} was out with {aC} lantern.", "{F} led {him} along the path to the {Q}."),
            {"cheerful": ("at home there was hot soup, and {H} laughed about the fog.",
                          "the sun broke through the fog, and {H} and {F} sang."),
             "gloomy": ("the fog grew dark, and {H} was lonely and cold until dawn.",
                        "the fog stayed for a week, and {H} sighed at the window."),
             "calm": ("{H} sat down under a tree and rested until the fog was gone.",
                      "the fog lifted slowly, and the village lay there in peace.")},
            "{aH} got lost in the fog"),
    "letter": (("{t} {aH} got a letter without a name.", "{t} {aH} found a wet letter near the {P}."),
               ("it smelled of {D}.", "{F} held the letter against the light.",
                "{H} and {F} asked at every door of the village.", "it said that a surprise was waiting near the {Q}."),
               {"cheerful": ("the letter was an invitation to a feast, and {H} jumped for joy.",
                             "the letter was from an old aunt, and {H} laughed for an hour."),
                "gloomy": ("the letter was for someone else, and {H} sighed and put it away.",
                           "the letter brought bad news, and {H} cried all night."),
                "calm": ("{H} kept the letter in a book for quiet evenings.",
                         "{H} read the letter twice and put it softly by the fire.")},
               "{aH} got a letter"),
    "market": (("{t} {aH} sold {D} at the market.", "{t} {aH} went to the market with a cart of {D}."),
               ("{F} bought some and came back for more.", "a parrot pulled at the table cloth.",
                "{he} called out the price in a funny voice.", "the cart lost a wheel near the {Q}."),
               {"cheerful": ("soon the {D} were sold, and {H} danced home with {aCT}.",
                             "{H} gave the last {D} to the children, and everybody cheered."),
                "gloomy": ("nobody wanted the last {D}, and {H} went home sad.",
                           "a thief took the coins, and {H} sat alone in the dark square."),
                "calm": ("when the market closed, {H} counted the coins slowly and in peace.",
                         "{H} ate the last {D} on a quiet bench near the {P}.")},
               "{aH} sold {D} at the market"),
}
OUTCOMES = {"cheerful": "and it ended well", "gloomy": "and it ended badly", "calm": "and it ended quietly"}
MOOD_WORDS = {
    "cheerful": ("laughed", "joy", "danced", "sang", "smiled", "merry", "cheered", "happy", "feast"),
    "gloomy": ("cried", "dark", "sad", "cold", "alone", "lonely", "sighed", "tears", "dead", "afraid"),
    "calm": ("quiet", "peace", "slowly", "softly", "rested", "soft", "asleep", "sleep", "slept"),
}


def pronouns(name: str) -> tuple[str, str, str]:
    """Subject, possessive and object pronoun of an animal or a person."""
    if name in f.ANIMALS:
        return "it", "its", "it"
    return ("she", "her", "her") if name in f.WOMEN else ("he", "his", "him")


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def slots(hero: str, rng: random.Random) -> dict[str, str]:
    """One filling of all slots for a story about `hero`."""
    friend = rng.choice([x for x in f.ANIMALS + f.PEOPLE if x != hero])
    place, other = rng.sample(f.PLACES, 2)
    he, his, him = pronouns(hero)
    colour, thing = rng.choice(f.COLOURS), rng.choice(f.THINGS)

    def indefinite(who: str) -> str:
        if who not in f.ANIMALS:
            return who
        first = rng.choice(ADJECTIVES) if rng.random() < 0.6 else ""
        return " ".join(x for x in (f.article(first or who), first, who) if x)

    def definite(who: str) -> str:
        return f"the {who}" if who in f.ANIMALS else who

    return {"H": definite(hero), "F": definite(friend), "aH": indefinite(hero), "aF": indefinite(friend),
            "he": he, "his": his, "him": him, "P": place, "Q": other, "T": thing, "C": colour,
            "aC": f"{f.article(colour)} {colour}", "aCT": f"{f.article(colour)} {colour} {thing}",
            "D": rng.choice(f.FOODS), "G": rng.choice(f.CROPS), "t": rng.choice(TIMES)}


def story(hero: str, mood: str, length: int, rng: random.Random, plot: str | None = None) -> tuple[list[str], str]:
    """A coherent story -> (its sentences, a one-sentence summary)."""
    openings, middles, endings, summary = PLOTS[plot or rng.choice(tuple(PLOTS))]
    fill = slots(hero, rng)
    beats = sorted(rng.sample(range(len(middles)), length - 2))
    patterns = [rng.choice(openings), *(middles[i] for i in beats), rng.choice(endings[mood])]
    first = next((i for i, p in enumerate(patterns) if "{F}" in p or "{aF}" in p), 0)
    patterns[first] = patterns[first].replace("{F}", "{aF}", 1)     # a friend comes in as "a goose", then is "the goose"
    short = summary.format(**fill | {"aH": f"{f.article(hero)} {hero}" if hero in f.ANIMALS else hero})
    return [sentence(p.format(**fill)) for p in patterns], sentence(f"{short}, {OUTCOMES[mood]}.")


# --- reading a text back: words -> classes -> skeletons -------------------------------------------------------------
_CLASS = {w: c for c, ws in {"ANIMAL": f.ANIMALS, "NAME": f.PEOPLE, "PLACE": f.PLACES, "FOOD": f.FOODS, "COLOUR": f.COLOURS,
                             "THING": f.THINGS, "JOB": f.JOBS, "ADJ": ADJECTIVES, "MOOD": f.MOODS,
                             "COUNT": tuple(f.NUMBERS)}.items() for w in ws}
_WORD = re.compile(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]")


def split_sentences(text: str) -> list[str]:
    """Sentences, each with its own end mark if it has one."""
    return [s.strip() for s in re.findall(r"[^.!?]+[.!?]*|[.!?]+", text) if s.strip()]


@lru_cache(maxsize=200_000)
def skeleton(text: str) -> tuple[str, ...]:
    """A sentence with its names replaced by classes; "The fox eats plums." -> the ANIMAL eats FOOD ."""
    words = _WORD.findall(text)
    out = ["#" if w.isdigit() else _CLASS.get(w) or w.lower() for w in words]
    if words and not words[0][0].isdigit() and out[0] not in ("NAME",):
        out[0] = _CLASS.get(words[0].lower(), out[0])
    return tuple(out)


@lru_cache(maxsize=1)
def plot_of_skeleton() -> dict[tuple[str, ...], frozenset[str]]:
    """Every sentence pattern of every plot, for every kind of hero and friend -> the plots it can belong to."""
    table: dict[tuple[str, ...], set[str]] = {}
    rng = random.Random(0)
    for plot, (openings, middles, endings, _) in PLOTS.items():
        for pattern in (*openings, *middles, *(e for mood in f.MOODS for e in endings[mood])):
            friends = (f.ANIMALS[1], f.PEOPLE[2]) if "F}" in pattern else f.ANIMALS[1:2]
            for hero, friend in product((f.ANIMALS[0], f.WOMEN[0], f.MEN[0]), friends):
                first = ("", "old ") if "{aH}" in pattern else ("",)        # adjectives only at first mention
                second = ("", "old ") if "F}" in pattern else ("",)
                for time, one, two, the in product(TIMES if "{t}" in pattern else TIMES[:1], first, second, (True, False)):
                    fill = slots(hero, rng) | {"t": time}
                    fill["aH"] = f"a {one}{hero}" if hero in f.ANIMALS else hero
                    fill["aF"] = f"a {two}{friend}" if friend in f.ANIMALS else friend
                    fill["F"] = f"the {friend}" if the and friend in f.ANIMALS else fill["aF"]
                    key = tuple("a" if w == "an" else w for w in skeleton(sentence(pattern.format(**fill))))
                    table.setdefault(key, set()).add(plot)
    return {key: frozenset(plots) for key, plots in table.items()}


def plots_of(text: str) -> frozenset[str]:
    """The plots that a sentence can belong to; empty when it is no sentence of a story."""
    key = tuple("a" if w == "an" else w for w in skeleton(text))
    return plot_of_skeleton().get(key, frozenset())
