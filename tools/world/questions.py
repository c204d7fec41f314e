# SPDX-License-Identifier: MIT
"""Questions and answers about a scene, each with what a right reply must and must not say.

make_questions() returns items of the form of questions.jsonl (make_videos.py). A maker is one function for one
type: it gets an Asker and returns turns, or None where the scene has no unambiguous question of that type.
An object is named by colour and shape, or by anything that it alone has.
"""
from dataclasses import replace

import numpy as np

from .describe import describe, make_dialogue_text, steps  # noqa: F401 (callers find all text here)
from .choices import multiple_choice
from .language import (COUNT_KEYS, NUMBERS, article, capital, choose, clause_alone, covers, except_for, keys_of,
                       listed, plural, references, start_place, verb, wrong_actions)
from .scene import (ACTIONS, COLOURS, HELD_PAIRS, ORBITS, SHAPES, SIZES, STRAIGHT, TEXTURES, camera_shift, trace)
from .wordings import (HELD, IMAGE, OPENERS, SHORT_INSTRUCTIONS, TRAIN, VIDEO, VIDEO_INSTRUCTIONS,
                       wordings)  # noqa: F401

HELD_WORDING = 0.25   # of the questions in val and test


class Asker:
    """A scene, a random stream and the choice of wordings; notes in held whether a held-out one was taken."""

    def __init__(self, scene, rng, split):
        self.scene, self.rng, self.split = scene, rng, split
        self.image = scene.kind == "image"
        self.held = False

    def pick(self, items):
        return choose(self.rng, items)

    def chance(self, p):
        return self.rng.random() < p

    def thing(self, test=lambda o: True):
        """Index of a random object that passes test, or None."""
        fit = [i for i, o in enumerate(self.scene.objects) if test(o)]
        return self.pick(fit) if fit else None

    def word(self, key, **slots):
        table = TRAIN[key]
        if self.split != "train" and HELD[key] and self.chance(HELD_WORDING):
            table = sorted(HELD[key])
            self.held = True
        start = "" if self.image else self.pick((" at the start", " at the beginning", " when it all begins"))
        return capital(self.pick(table).format(v=self.pick(IMAGE if self.image else VIDEO), start=start, **slots))

    def ref(self, i, *avoid):
        found = references(self.scene, i, avoid, self.rng)
        return self.pick(found) if found else None


def turn(q, a, accept, reject=()):
    return {"q": q, "a": a, "accept": [list(g) for g in accept], "reject": list(reject)}


def numeral_turn(q, n, a):
    return turn(q, a, [COUNT_KEYS[n]], [w for k, ws in COUNT_KEYS.items() if k != n for w in ws])


def amount(n, one, many=None):
    return "There %s %s %s" % ("is" if n == 1 else "are", NUMBERS[n], one if n == 1 else many or plural(one))


def colour(k, i=None, q=None):
    if i is None:
        i = k.thing()
        if i is None or not (r := k.ref(i, "colour")):
            return None
        q = k.word("colour", r=r)
    o = k.scene.objects[i]
    return i, turn(q, "The %s is %s." % (o.shape, o.colour), [[o.colour]], except_for(COLOURS, o.colour))


def shape(k, i=None, q=None):
    if i is None:
        i = k.thing()
        if i is None or not (r := k.ref(i, "shape")):
            return None
        q = k.word("shape", r=r)
    o = k.scene.objects[i]
    return i, turn(q, "The %s object is a %s." % (o.colour, o.shape), [[o.shape]], except_for(SHAPES, o.shape))


def size(k, i=None, q=None):
    if i is None:
        i = k.thing(lambda o: o.size and not {"grow", "shrink"} & set(o.actions))
        if i is None or not (r := k.ref(i, "size")):
            return None
        q = k.word("size", r=r)
    o = k.scene.objects[i]
    return i, turn(q, "The %s is %s." % (o.name, o.size), [[o.size]], except_for(SIZES, o.size))


def texture(k, i=None, q=None):
    if i is None:
        plain = k.chance(0.4)
        i = k.thing(lambda o: (o.texture == "plain") == plain and o.size != "small")
        i = k.thing() if i is None else i
        if i is None or not (r := k.ref(i, "texture")):
            return None
        q = k.word("texture", r=r)
    o = k.scene.objects[i]
    return i, turn(q, "The %s is %s." % (o.name, o.texture), [[o.texture]], except_for(TEXTURES, o.texture))


def position(k, i=None, q=None):
    things = k.scene.objects
    clear = [(j, n) for j, o in enumerate(things) if o.actions[0] != "appear"
             for n, p in enumerate(start_place(k.scene, o)) if p and p == start_place(k.scene, o, 0.06)[n]]
    if i is not None:
        clear = [c for c in clear if c[0] == i and c[1] == 0]
    if not clear or k.scene.camera != "still":
        return None
    i, axis = k.pick(clear)
    place = start_place(k.scene, things[i])[axis]
    q = q or k.word("level" if axis else "side", r=k.ref(i))
    a = "The %s is %s the %s%s." % (things[i].name, "at" if axis else "on", place, "" if k.image else " at the start")
    return i, turn(q, a, [[place]], except_for(("left", "right", "top", "bottom"), place))


def one_event(o):
    return len(o.events) < 2


def deed_answer(k, i):
    o = k.scene.objects[i]
    a = "The %s %s." % (o.name, verb(o.actions[0]))
    return a, keys_of(o.actions), wrong_actions(o.actions, a)


def direction(k, i=None, q=None):
    if k.scene.camera != "still":
        return None
    if i is None:
        still = k.chance(0.12)
        i = k.thing(lambda o: one_event(o) and bool(o.events) != still)
        i = k.thing(one_event) if i is None else i
        if i is None:
            return None
        action = k.scene.objects[i].actions[0]
        r = k.ref(i, "action")
        q = k.word("way" if action in STRAIGHT and k.chance(0.6) else "deed", r=r)
    return i, turn(q, *deed_answer(k, i))


def appearing(k):
    return any({"appear", "vanish"} & set(o.actions) for o in k.scene.objects)


def count(k):
    things, kind = k.scene.objects, int(k.rng.integers(4))
    if appearing(k):
        if kind > 1:
            return None
        key, u = (("count_start", 0.0), ("count_end", 1.0))[kind]
        n = sum(trace(o, np.array([u]))[3][0] > 0.5 for o in things)
        a = "%s at the %s." % (amount(n, "object"), key[6:])
        return None, numeral_turn(k.word(key), n, a)
    if kind == 0:
        n = len(things)
        return None, numeral_turn(k.word("count"), n, amount(n, "object") + ".")
    if kind == 1 and things:
        s = k.pick([o.shape for o in things] * 2 + list(SHAPES))
        n = sum(o.shape == s for o in things)
        return None, numeral_turn(k.word("count_kind", s=plural(s)), n, amount(n, s) + ".")
    if kind == 2 and things:
        c = k.pick([o.colour for o in things] * 2 + list(COLOURS))
        n = sum(o.colour == c for o in things)
        return None, numeral_turn(k.word("count_colour", c=c), n, amount(n, c + " object") + ".")
    acts = {a for o in things for a in o.actions}
    if k.image or k.scene.camera != "still" or acts & {"grow", "shrink"}:
        return None
    n = sum(bool(o.events) for o in things)
    a = "One object moves." if n == 1 else "%s objects move." % capital(NUMBERS[n])
    return None, numeral_turn(k.word("count_move"), n, a)


def clause(k, event, i, rng=None):
    return "the %s %s" % (k.scene.objects[i].name, verb(event.action, 0, rng))


def event_turn(k, q, n, lead="{}."):
    """The answer that names event number n and no other."""
    events = k.scene.events()
    event, i = events[n]
    o = k.scene.objects[i]
    a = capital(lead.format(clause(k, event, i)))
    others = [k.scene.objects[j].name for _, j in events if j != i]
    return turn(q, a, [[o.name]] + keys_of([event.action]), sorted(set(others)) + wrong_actions([event.action], a))


def order(k):
    if k.scene.kind != "sequence":
        return None
    events = k.scene.events()
    last = len(events) - 1
    kind = k.pick(("first", "last", "who_first", "who_last") + ("after", "before", "earlier") * 2)
    if kind in ("first", "last"):
        return None, event_turn(k, k.word(kind), 0 if kind == "first" else last)
    if kind in ("after", "before"):
        n = int(k.rng.integers(last)) + (kind == "before")
        if not clause_alone(k.scene, *events[n]):
            return None
        # with two events on that side, only the next one may be meant
        near = "right_" if last == 2 and n != 1 or k.chance(0.5) else ""
        q = k.word(near + kind, x=clause(k, *events[n], k.rng))
        return None, event_turn(k, q, n + 1 if kind == "after" else n - 1)
    if kind in ("who_first", "who_last"):
        at = 0 if kind == "who_first" else last
        event, i = events[at]
        if len({j for _, j in events}) < 2 or sum(j == i for _, j in events) > 1:
            return None
        return None, event_turn(k, k.word(kind), at, "{} %s." % kind[4:])
    x, y = sorted(int(v) for v in k.rng.choice(last + 1, 2, replace=False))
    if not (clause_alone(k.scene, *events[x]) and clause_alone(k.scene, *events[y])):
        return None
    yes = k.chance(0.5)
    p, q = (x, y) if yes else (y, x)
    first, second = clause(k, *events[p]), clause(k, *events[q])
    a = "%s %s %s" % (first, "before" if yes else "after", second)
    base = "the %s %s" % (k.scene.objects[events[p][1]].name, verb(events[p][0].action, 1))
    return None, yes_no(k.word("earlier", x=first, y=second, xi=base), yes, a)


def exist(k):
    things, yes = k.scene.objects, k.chance(0.5)
    deeds = not k.image and k.scene.camera == "still" and k.chance(0.3)
    if yes and not things:
        return None
    if deeds:
        acts = [a for o in things for a in o.actions if a != "still"]
        fit = acts if yes else [d for d in ACTIONS[1:] if not any(covers(a, d) for a in acts)]
        if not fit:
            return None
        d = k.pick(fit)
        v = choose(k.rng, (None, k.rng))
        q = k.word("exist_deed", d=verb(d, 1, v), ds=verb(d, 0, v), dg=verb(d, 2, v))
        if yes:
            o = k.pick([o for o in things if d in o.actions])
            return None, yes_no(q, True, "the %s %s" % (o.name, verb(d)))
        return None, yes_no(q, False, "nothing %s" % verb(d))
    pairs = {(o.colour, o.shape) for o in things}
    form = int(k.rng.integers(4))
    if yes:
        o = k.pick(things)
        a = (o.name, o.name, o.colour + " object", o.shape)[form]
    else:
        colours, shapes = [{p[n] for p in pairs} for n in (0, 1)]
        held = HELD_PAIRS if k.split == "train" else ()
        near = [c + " " + s for c in COLOURS for s in SHAPES if (c, s) not in pairs and (c, s) not in held
                and (c in colours or s in shapes)]
        near = near or ["red circle"]
        others = [c + " object" for c in except_for(COLOURS, *colours)]
        a = k.pick((near, near, others, except_for(SHAPES, *shapes))[form])
    return None, yes_no(k.word("exist", a=article(a)), yes, "there is %s" % (article(a) if yes else "no " + a))


def yes_no(q, yes, what):
    return turn(q, "%s, %s." % ("Yes" if yes else "No", what), [["yes" if yes else "no"]], ["no" if yes else "yes"])


def change(k):
    events = k.scene.events()
    if k.scene.camera != "still" or not events:
        return None
    kind = int(k.rng.integers(3))
    if kind == 0:
        if len(events) != 1 or events[0][0].action in ORBITS or events[0][0].action == "bounce":
            return None
        return None, event_turn(k, k.word("change"), 0)
    # few objects change their size: the others are asked less, or "no" and "position" would nearly always be right
    if not any({"grow", "shrink"} & set(o.actions) for o in k.scene.objects) and k.chance(0.75):
        return None
    if kind == 1:
        i = k.thing(lambda o: one_event(o) and o.actions[0] in (*STRAIGHT, "grow", "shrink"))
        if i is None:
            return None
        sizes, places = ["size"], ["position", "place"]
        right, wrong = (sizes, places) if k.scene.objects[i].actions[0] in ("grow", "shrink") else (places, sizes)
        a = "The %s of the %s changes." % (right[0], k.scene.objects[i].name)
        return None, turn(k.word("change_kind", r=k.ref(i, "action")), a, [right], wrong)
    want = k.chance(0.5)
    i = k.thing(lambda o: one_event(o) and o.actions[0] not in ("appear", "vanish") and
                (o.actions[0] in ("grow", "shrink")) == want)
    if i is None:
        return None
    o = k.scene.objects[i]
    what = "the %s %s" % (o.name, verb(o.actions[0]) if want else "keeps its size")
    return None, yes_no(k.word("change_size", r=k.ref(i, "action")), want, what)


def camera(k):
    way = k.scene.camera
    a = "The camera %s." % (verb(way) if way != "still" else "stays still")
    return None, turn(k.word("camera"), a, keys_of([way]), wrong_actions([way], a))


def described(k):
    return None, turn(k.word("describe"), *describe(k.scene, k.rng))


def stepped(k):
    return (None, turn(k.word("steps"), *steps(k.scene))) if k.scene.kind == "sequence" else None


FOLLOW = {"it_colour": colour, "it_shape": shape, "it_size": size, "it_texture": texture, "it_deed": direction,
          "it_way": direction, "it_side": position}


def dialogue(k):
    """Two turns; the second leans on the first. None if the first gives the second away."""
    things = k.scene.objects
    start = k.pick(("one", "one", "one", "other", "count") + (() if k.image else ("order",)))
    if start == "order" and k.scene.kind == "sequence":
        n = int(k.rng.integers(len(k.scene.events()) - 1))
        if n and not clause_alone(k.scene, *k.scene.events()[n - 1]):
            return None
        first = k.word("first") if n == 0 else k.word("right_after", x=clause(k, *k.scene.events()[n - 1]))
        return [event_turn(k, first, n), event_turn(k, k.word("next"), n + 1)]
    if start == "count" and things and not appearing(k) and len(things) > 1:
        n = len(things)
        names = listed(article(o.name) for o in things)
        absent = except_for(COLOURS, *(o.colour for o in things)) + except_for(SHAPES, *(o.shape for o in things))
        return [numeral_turn(k.word("count"), n, amount(n, "object") + "."),
                turn(k.word("names"), "They are %s." % names, [[o.name] for o in things], absent)]
    makers = {"colour": colour, "shape": shape, "size": size, "texture": texture, "deed": direction, "side": position}
    name = k.pick([m for m in makers if not (k.image and m == "deed")])
    made = makers[name](k)
    if not made:
        return None
    i, first = made
    if start == "other" and len(things) == 2:
        o = things[1 - i]
        key = k.pick(("other", "other_colour", "other_shape"))
        a = {"other": "The other one is %s." % article(o.name), "other_colour": "The other one is %s." % o.colour,
             "other_shape": "The other one is a %s." % o.shape}[key]
        accept = {"other": [[o.name]], "other_colour": [[o.colour]], "other_shape": [[o.shape]]}[key]
        reject = {"other": COLOURS + SHAPES, "other_colour": COLOURS, "other_shape": SHAPES}[key]
        reject = except_for(reject, o.colour, o.shape)
        return [first, turn(k.word(key), a, accept, reject)]
    o, said = things[i], first["q"].lower() + " " + first["a"].lower()
    told = {"it_" + key for key in ("colour", "shape", "size", "texture") if (getattr(o, key) or "-") in said}
    if " that " in said:
        told |= {"it_deed", "it_way"}
    fit = [key for key in FOLLOW if key[3:] != name and key not in told]
    if k.image or k.scene.camera != "still" or not one_event(o) or name == "deed":
        fit = [key for key in fit if key not in ("it_deed", "it_way")]
    if o.actions[0] not in STRAIGHT:
        fit = [key for key in fit if key != "it_way"]
    if not o.size or {"grow", "shrink"} & set(o.actions):
        fit = [key for key in fit if key != "it_size"]
    if not fit:
        return None
    key = k.pick(fit)
    second = FOLLOW[key](k, i, k.word(key))
    return [first, second[1]] if second else None


MAKERS = {"colour": colour, "shape": shape, "count": count, "direction": direction, "order": order, "exist": exist,
          "change": change, "size": size, "texture": texture, "position": position, "camera": camera,
          "choice": multiple_choice, "describe": described, "steps": stepped, "dialogue": dialogue}
WEIGHTS = {"colour": 9, "shape": 9, "count": 9, "direction": 12, "order": 14, "exist": 8, "change": 6, "size": 5,
           "texture": 5, "position": 5, "camera": 2, "choice": 16, "describe": 8, "steps": 6, "dialogue": 12}
IMAGE_TYPES = ("colour", "shape", "count", "exist", "size", "texture", "position", "choice", "describe", "dialogue")


def make_question(scene, rng, split, kind):
    """One item of a type, or None after a few tries."""
    for _ in range(4):
        k = Asker(scene, rng, split)
        made = MAKERS[kind](k)
        if not made:
            continue
        item = {"type": kind, "instruction": None, "answer_prefix": None}
        if isinstance(made, dict):
            item.update(made)
        else:
            item["turns"] = made if isinstance(made, list) else [made[1]]
            if k.chance(0.1):
                item["instruction"] = k.pick(SHORT_INSTRUCTIONS + (() if k.image else VIDEO_INSTRUCTIONS))
            if k.chance(0.12):
                opener = k.pick(OPENERS).format(v=k.pick(IMAGE if k.image else VIDEO))
                q = item["turns"][0]["q"]
                if opener.endswith(", ") and not q.startswith("I "):
                    q = q[0].lower() + q[1:]
                item["turns"][0]["q"] = opener + q
        item["heldout"] = scene.heldout + (["wording"] if k.held else [])
        item["seed"] = scene.seed
        return item
    return None


def make_questions(scene, rng, split, k, types=None):
    """Up to k items about a scene, mostly of different types."""
    types = list(types or WEIGHTS)
    made = []
    weight = np.array([WEIGHTS[t] for t in types], float)
    if scene.camera != "still" and "camera" in types:
        weight[types.index("camera")] *= 10
    for _ in range(4 * k):
        if len(made) == k:
            break
        n = int(np.searchsorted(np.cumsum(weight), rng.random() * weight.sum(), side="right"))
        item = make_question(scene, rng, split, types[min(n, len(types) - 1)])
        weight[n] *= 0.03 if item else 0.3
        if item and all(item["turns"][0]["q"] != other["turns"][0]["q"] for other in made):
            made.append(item)
    return made


def still_scene(scene, u):
    """What one frame at time u shows, as a scene of its own; None while something is half visible."""
    things = []
    at = np.array([float(u)])
    sx, sy = camera_shift(scene, at)
    for o in scene.objects:
        x, y, r, a = trace(o, at)
        if 0.02 < a[0] < 0.98:
            return None
        if a[0] >= 0.98:
            same = abs(r[0] / o.radius - 1) < 0.02
            things.append(replace(o, x=x[0] + sx[0], y=y[0] + sy[0], radius=r[0], size=o.size if same else "",
                                  events=[]))
    return replace(scene, kind="image", objects=things, camera="still", pan=(0.0, 0.0),
                   heldout=[o.name for o in things if (o.colour, o.shape) in HELD_PAIRS])


def make_image_questions(scene, rng, split, k, u):
    """Up to k items about the single frame at time u: only what can be seen in it."""
    still = still_scene(scene, u)
    if still is None:
        return []
    return make_questions(still, rng, split, k, IMAGE_TYPES if still.objects else ("count", "exist"))
