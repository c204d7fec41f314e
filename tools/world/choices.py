# SPDX-License-Identifier: MIT
"""Multiple choice in the wording of MVBench: a stem, three to five options, one of them right.

In half of the items the reply is begun for the model ("Best option:("), so that its answer starts with the letter.
"""
from .language import NUMBERS, article, clause_alone, except_for, verb
from .scene import ACTIONS, COLOURS, HELD_ACTIONS, HELD_PAIRS, PANS, SHAPES, SIZES, TEXTURES
from .wordings import PROTOCOL

LETTERS = "ABCDE"
PREFIX = "Best option:("


def about_colour(k):
    i = k.thing()
    r = i is not None and k.ref(i, "colour")
    return r and (k.word("colour", r=r), k.scene.objects[i].colour, except_for(COLOURS, k.scene.objects[i].colour))


def about_shape(k):
    i = k.thing()
    r = i is not None and k.ref(i, "shape")
    return r and (k.word("shape", r=r), article(k.scene.objects[i].shape),
                  [article(s) for s in except_for(SHAPES, k.scene.objects[i].shape)])


def about_count(k):
    n = len(k.scene.objects)
    if any({"appear", "vanish"} & set(o.actions) for o in k.scene.objects):
        return None
    return k.word("count"), NUMBERS[n], except_for(NUMBERS[1:7], NUMBERS[n])


def about_deed(k):
    i = k.thing(lambda o: len(o.events) < 2)
    if i is None or k.scene.camera != "still" or k.image:
        return None
    thing = k.scene.objects[i]
    action = thing.actions[0]
    return (k.word("deed", r=k.ref(i, "action")), "It " + verb(action),
            ["It " + verb(a) for a in except_for(ACTIONS, action) if sayable(k, thing, a)])


def sayable(k, thing, action):
    """Training text says nothing held out, not even in a wrong option."""
    return k.split != "train" or (thing.shape, action) not in HELD_ACTIONS


def told(thing, action):
    return "The %s %s" % (thing.name, verb(action))


def about_order(k):
    if k.scene.kind != "sequence":
        return None
    events, things = k.scene.events(), k.scene.objects
    texts = [told(things[i], e.action) for e, i in events]
    kind = k.pick(("first", "last", "after", "before"))
    n = 0 if kind == "first" else len(events) - 1
    if kind in ("after", "before"):
        given = int(k.rng.integers(len(events) - 1)) + (kind == "before")
        n = given + (1 if kind == "after" else -1)
        if not clause_alone(k.scene, *events[given]):
            return None
        q = k.word("right_" + kind, x=texts[given][0].lower() + texts[given][1:])
    else:
        q = k.word(kind)
    others = [t for t in texts if t != texts[n]]
    false = [told(o, a) for o in things for a in ACTIONS[1:] if told(o, a) not in texts and sayable(k, o, a)]
    return q, texts[n], (others, false)


def about_who(k):
    events = k.scene.events()
    if k.scene.kind != "sequence" or len({i for _, i in events}) < 2:
        return None
    first = k.chance(0.5)
    i = events[0 if first else -1][1]
    if sum(j == i for _, j in events) > 1:
        return None
    things = k.scene.objects
    held = HELD_PAIRS if k.split == "train" else ()
    absent = ["The %s %s" % (c, s) for c in COLOURS for s in SHAPES
              if (c, s) not in held and all((o.colour, o.shape) != (c, s) for o in things)]
    return (k.word("who_first" if first else "who_last"), "The " + things[i].name,
            (["The " + o.name for o in things if o is not things[i]], absent))


def about_size(k):
    i = k.thing(lambda o: o.size and not {"grow", "shrink"} & set(o.actions))
    r = i is not None and k.ref(i, "size")
    return r and (k.word("size", r=r), k.scene.objects[i].size, except_for(SIZES, k.scene.objects[i].size))


def about_texture(k):
    i = k.thing(lambda o: o.size != "small")
    r = i is not None and k.ref(i, "texture")
    right = r and k.scene.objects[i].texture
    return r and (k.word("texture", r=r), right, except_for(TEXTURES, right))


def about_camera(k):
    way = k.scene.camera
    if way == "still" and not k.chance(0.1) or k.image:
        return None
    texts = {w: "It moves %s" % verb(w)[6:] if w != "still" else "It stays still" for w in ("still",) + PANS}
    return k.word("camera"), texts[way], [t for w, t in texts.items() if w != way]


STEMS = {about_colour: 3, about_shape: 3, about_count: 3, about_deed: 5, about_order: 7, about_who: 2, about_size: 1,
         about_texture: 1, about_camera: 1}


def wrong_options(k, wrong, n):
    """n wrong options; a pair of lists means: rather from the first (up to all of it), the rest from the second."""
    first, rest = wrong if isinstance(wrong, tuple) else ([], wrong)
    order = [first[int(i)] for i in k.rng.permutation(len(first))][:n]
    return order + [rest[int(i)] for i in k.rng.permutation(len(rest))][:n - len(order)]


def multiple_choice(k):
    """An item's fields, or None."""
    stems = [s for s, w in STEMS.items() for _ in range(w)]
    for _ in range(8):
        made = k.pick(stems)(k)
        if made:
            break
    else:
        return None
    q, right, wrong = made
    options = wrong_options(k, wrong, int(k.rng.integers(2, 5)))
    at = int(k.rng.integers(len(options) + 1))
    options.insert(at, right)
    rows = "".join("(%s) %s\n" % (LETTERS[n], o) for n, o in enumerate(options))
    begun = k.chance(0.5)
    letter = LETTERS[at] + ")"
    return {"instruction": PROTOCOL if k.chance(1 / 3) else None, "answer_prefix": PREFIX if begun else None,
            "turns": [{"q": "Question: %s\nOptions:\n%sOnly give the best option." % (q, rows),
                       "a": "%s%s %s" % ("" if begun else "(", letter, right), "accept": [[letter]],
                       "reject": [c + ")" for c in LETTERS[:len(options)] if c != LETTERS[at]]}]}
