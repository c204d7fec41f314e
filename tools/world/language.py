# SPDX-License-Identifier: MIT
"""Words of the procedural world: how actions, objects and numbers are called, and how a reply is scored.

One canonical wording per action serves the answers; questions draw from synonyms. KEYS are the words by which a
reply is judged: of each group one phrase must occur.
"""
import re

import numpy as np

from .scene import ACTIONS, MOVES, ORBITS, STRAIGHT, trace

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
COUNT_KEYS = {0: ("no", "zero", "none"), 1: ("one", "1"), 2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4"),
              5: ("five", "5"), 6: ("six", "6")}
NOUNS = ("object", "thing", "figure", "item")

WAYS = {"left": ("to the left", "leftwards", "towards the left", "to the left side"),
        "right": ("to the right", "rightwards", "towards the right", "to the right side"),
        "up": ("up", "upwards", "towards the top"),
        "down": ("down", "downwards", "towards the bottom"),
        "up-left": ("up and to the left", "diagonally up and to the left", "towards the upper left corner"),
        "up-right": ("up and to the right", "diagonally up and to the right", "towards the upper right corner"),
        "down-left": ("down and to the left", "diagonally down and to the left", "towards the lower left corner"),
        "down-right": ("down and to the right", "diagonally down and to the right",
                       "towards the lower right corner"),
        "clockwise": ("round clockwise", "around clockwise"),
        "anticlockwise": ("round anticlockwise", "around anticlockwise")}
# third person, infinitive, participle; the first of each list is the canonical one
TRAVEL = (("moves", "move", "moving"), ("goes", "go", "going"), ("travels", "travel", "travelling"),
          ("slides", "slide", "sliding"), ("drifts", "drift", "drifting"), ("glides", "glide", "gliding"))
ROUND = (("goes", "go", "going"), ("moves", "move", "moving"), ("turns", "turn", "turning"),
         ("travels", "travel", "travelling"))
OTHERS = {
    "still": (("stays still", "stay still", "staying still"), ("remains still", "remain still", "remaining still"),
              ("does not move", "not move", "not moving"), ("rests in place", "rest in place", "resting in place")),
    "grow": (("grows", "grow", "growing"), ("gets bigger", "get bigger", "getting bigger"),
             ("becomes larger", "become larger", "becoming larger"), ("expands", "expand", "expanding"),
             ("swells", "swell", "swelling")),
    "shrink": (("shrinks", "shrink", "shrinking"), ("gets smaller", "get smaller", "getting smaller"),
               ("becomes smaller", "become smaller", "becoming smaller"), ("contracts", "contract", "contracting")),
    "bounce": (("bounces", "bounce", "bouncing"), ("hops up and down", "hop up and down", "hopping up and down"),
               ("jumps up and down", "jump up and down", "jumping up and down")),
    "appear": (("appears", "appear", "appearing"), ("shows up", "show up", "showing up"),
               ("comes into view", "come into view", "coming into view"), ("emerges", "emerge", "emerging")),
    "vanish": (("vanishes", "vanish", "vanishing"), ("disappears", "disappear", "disappearing"),
               ("fades away", "fade away", "fading away")),
}
KEYS = {a: [[a]] for a in ACTIONS}
KEYS.update({a: [list(p) for p in ((a.split("-")[0],), (a.split("-")[-1],))] for a in STRAIGHT if "-" in a})
KEYS.update({"grow": [["grows", "grow", "bigger", "larger"]], "shrink": [["shrinks", "shrink", "smaller"]],
             "bounce": [["bounces", "bounce"]], "appear": [["appears", "appear"]],
             "vanish": [["vanishes", "vanish", "disappears"]], "still": [["still"]]})
ACTION_WORDS = ("still", "left", "right", "up", "down", "clockwise", "anticlockwise", "grows", "shrinks", "bounces",
                "appears", "vanishes")


def occurs(phrase, text):
    """Does phrase occur in text as whole words, whatever the case?"""
    return re.search(r"(?<![\w-])%s(?![\w-])" % re.escape(phrase.lower()), text.lower()) is not None


def score(reply, turn):
    """Is reply right for a turn: one phrase of every group of accept, none of reject?"""
    return all(any(occurs(p, reply) for p in group) for group in turn["accept"]) and \
        not any(occurs(p, reply) for p in turn["reject"])


def choose(rng, items):
    return items[int(rng.integers(len(items)))]


def verb(action, form=0, rng=None):
    """A verb phrase; form 0 = he does, 1 = to do, 2 = doing; canonical without rng, else any synonym."""
    if action in OTHERS:
        return (choose(rng, OTHERS[action]) if rng else OTHERS[action][0])[form]
    table = ROUND if "clock" in action else TRAVEL
    if rng is None:
        return table[0][form] + " " + WAYS[action][0]
    return choose(rng, table)[form] + " " + choose(rng, WAYS[action])


def keys_of(actions):
    return [list(g) for a in actions for g in KEYS[a]]


def wrong_actions(actions, text):
    """The words of other actions, as rejects: none of them is in text."""
    own = {p for a in actions for g in KEYS[a] for p in g}
    return [w for w in ACTION_WORDS if w not in own and not occurs(w, text)]


def except_for(words, *kept):
    return [w for w in words if w not in kept]


def article(phrase):
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def capital(text):
    return text[:1].upper() + text[1:]


def listed(parts):
    parts = list(parts)
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def plural(noun):
    return noun + ("es" if noun.endswith("s") else "s")


def full_name(thing, medium=False, plain=False):
    """large striped red circle: size unless medium, texture unless plain."""
    words = [thing.size] if thing.size and (medium or thing.size != "medium") else []
    words += [thing.texture] if plain or thing.texture != "plain" else []
    return " ".join(words + [thing.name])


def start_place(scene, thing, u=0.0):
    """(left, right or None; top, bottom or None): where it clearly is at time u."""
    w, h = scene.extent
    x, y, _, _ = trace(thing, np.array([u]))
    side = (x[0] / w - 0.5, y[0] / h - 0.5)
    return ("left" if side[0] < -0.13 else "right" if side[0] > 0.13 else None,
            "top" if side[1] < -0.13 else "bottom" if side[1] > 0.13 else None)


def alone(scene, i, attribute):
    value = getattr(scene.objects[i], attribute)
    return sum(getattr(o, attribute) == value for o in scene.objects) == 1


def size_known(scene):
    return all(o.size and not {"grow", "shrink"} & set(o.actions) for o in scene.objects)


def action_alone(scene, i):
    """The action that only object i does, or None; never with a moving camera or in a still picture."""
    if scene.camera != "still" or scene.kind == "image":
        return None
    mine = scene.objects[i].actions
    others = [a for j, o in enumerate(scene.objects) if j != i for a in o.actions]
    if len(mine) != 1 or any(covers(a, mine[0]) for a in others):
        return None
    # what grows or appears does not move either
    return None if mine[0] == "still" and not MOVES.issuperset(others) else mine[0]


def covers(action, said):
    """Could somebody who sees action say that it is said? What moves up and to the left also moves up."""
    if said in STRAIGHT and action in ORBITS or said in ("up", "down") and action == "bounce":
        return True
    return said == action or action in STRAIGHT and said in action.split("-")


def clause_alone(scene, event, i):
    """Is "the red circle moves up" said of this event only?"""
    return not any(e is not event and j == i and covers(e.action, event.action) for e, j in scene.events())


def references(scene, i, avoid=(), rng=None):
    """Phrases that name object i and no other, without giving away the attributes in avoid."""
    thing = scene.objects[i]
    noun = choose(rng, NOUNS) if rng else NOUNS[0]
    found = []
    if "colour" not in avoid and "shape" not in avoid:
        found += ["the " + thing.name] * 3
    if "colour" not in avoid and alone(scene, i, "colour"):
        found.append("the %s %s" % (thing.colour, noun if "shape" in avoid or rng is None or
                                    rng.random() < 0.7 else "shape"))
    if "shape" not in avoid and alone(scene, i, "shape"):
        found += ["the " + thing.shape] * 2
    if "size" not in avoid and len(scene.objects) > 1 and size_known(scene) and alone(scene, i, "size"):
        found.append("the %s %s" % (thing.size, noun))
    if "texture" not in avoid and thing.texture != "plain" and alone(scene, i, "texture"):
        found.append("the %s %s" % (thing.texture, noun))
    if len(scene.objects) == 1:
        found.append(("the %s" if rng is None or rng.random() < 0.6 else "the only %s") % noun)
    if "action" not in avoid and len(scene.objects) > 1:
        action = action_alone(scene, i)
        if action:
            found.append("the %s that %s" % (noun, verb(action, 0, rng)))
    return found
