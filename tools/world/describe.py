# SPDX-License-Identifier: MIT
"""Prose about a scene: short descriptions, the steps of a sequence, and a full text that answers every question.

Descriptions name every object once with colour and shape, its size unless medium, its texture unless plain, and
what it does, in the order of time where that matters.
"""
from .language import (NUMBERS, article, capital, choose, except_for, full_name, keys_of, listed, start_place, verb,
                       wrong_actions)
from .scene import COLOURS, SHAPES


def judged(scene, text, actions):
    """accept and reject of a text that must name all objects and these actions."""
    accept = [[o.name] for o in scene.objects] + keys_of(actions)
    unique = [g for n, g in enumerate(accept) if g not in accept[:n]]
    reject = except_for(COLOURS, *(o.colour for o in scene.objects))
    reject += except_for(SHAPES, *(o.shape for o in scene.objects))
    return unique, reject + (wrong_actions(actions, text) if scene.kind != "image" else [])


def names(scene, indices, first=True):
    return listed((article if first else "the {}".format)(full_name(scene.objects[i])) for i in indices)


def stills(scene, indices):
    return "%s stay%s still" % (names(scene, indices), "s" if len(indices) == 1 else "")


def describe(scene, rng):
    """(text, accept, reject) of one to three sentences or so."""
    things = range(len(scene.objects))
    if scene.kind == "image":
        verb_be = "is" if len(scene.objects) == 1 else "are"
        text = choose(rng, ("There {v} {n}.", "The picture shows {n}.", "I see {n}.")).format(
            v=verb_be, n=names(scene, things))
        return (text, *judged(scene, text, []))
    if scene.camera != "still":
        text = choose(rng, ("The camera moves {way} past {n}.", "The camera moves {way}. The scene shows {n}.",
                            "While the camera moves {way}, we see {n}.")).format(
            way=verb(scene.camera)[6:], n=names(scene, things))
        accept, reject = judged(scene, text, [scene.camera])
        return text, [["camera"]] + accept, reject
    idle = [i for i in things if not scene.objects[i].events]
    actions = [e.action for e, _ in scene.events()] + (["still"] if idle else [])
    told = sequence_sentences(scene) if scene.kind == "sequence" else whole_sentences(scene, idle, rng)
    if idle and scene.kind == "sequence":
        told.append(stills(scene, idle))
    text = " ".join(capital(s) + "." for s in told)
    return (text, *judged(scene, text, actions))


def whole_sentences(scene, idle, rng):
    busy = ["%s %s" % (article(full_name(o)), verb(o.actions[0])) for o in scene.objects if o.events]
    if not busy:
        return [stills(scene, idle)]
    if not idle and len(busy) == 2:
        return [choose(rng, (" while ", " and ")).join(busy)]
    if idle and len(busy) == 1:
        return [busy[0] + " while " + stills(scene, idle)]
    if len(busy) == 3:
        busy = [busy[0] + " and " + busy[1], busy[2]]
    elif len(busy) == 2:
        busy = [" and ".join(busy)]
    return busy + ([stills(scene, idle)] if idle else [])


def sequence_sentences(scene, known=False):
    told, named, before = [], set(range(len(scene.objects))) if known else set(), None
    events = scene.events()
    for n, (event, i) in enumerate(events):
        thing = scene.objects[i]
        if i == before:
            who = "it"
        elif i in named:
            who = "the " + thing.name
        else:
            who = article(full_name(thing))
        lead = "first, " if n == 0 else "finally, " if n == 2 else "then "
        told.append("%s%s %s" % (lead, who, verb(event.action)))
        named.add(i)
        before = i
    return told


def steps(scene):
    """(text, accept, reject) of a sequence, step by step."""
    text = " ".join(capital(s) + "." for s in sequence_sentences(scene, known=True))
    events = scene.events()
    accept = [[scene.objects[i].name] for i in dict.fromkeys(i for _, i in events)]
    accept += [g for g in keys_of([e.action for e, _ in events])]
    reject = except_for(COLOURS, *(scene.objects[i].colour for _, i in events))
    reject += except_for(SHAPES, *(scene.objects[i].shape for _, i in events))
    accept = [g for n, g in enumerate(accept) if g not in accept[:n]]
    return text, accept, reject + wrong_actions([e.action for e, _ in events], text)


def place_phrase(scene, thing, rng):
    side, level = start_place(scene, thing)
    if side and level:
        return "in the %s %s %s" % ({"top": "upper", "bottom": "lower"}[level], side,
                                    choose(rng, ("part", "corner", "area")))
    if side:
        return choose(rng, ("on the %s", "on the %s side", "in the %s half")) % side
    if level:
        return choose(rng, ("near the %s", "at the %s")) % level
    return choose(rng, ("in the middle", "near the centre"))


def intro(thing, where, style, lead, hidden):
    look = "%s, %s %s" % (thing.size, thing.texture, thing.name) if style == 1 else \
        "%s %s %s" % (thing.size, thing.texture, thing.name)
    if hidden:
        return "%s %s that is missing at first and comes in %s" % (lead, article(look), where)
    if style == 0:
        return "%s %s that starts %s" % (lead, article(look), where)
    if style == 1:
        return "%s %s, %s at the start" % (lead, article(look), where)
    return "%s %s of %s size with a %s look, and it begins %s" % (lead, article(thing.name), thing.size,
                                                                  thing.texture, where)


def opening(n, rng):
    number, noun = NUMBERS[n], "object" if n == 1 else "objects"
    be = "is" if n == 1 else "are"
    return choose(rng, ("There {be} {number} {noun} in the video", "The video shows {number} {noun}",
                        "In this clip {be} {number} {noun}", "We see {number} {noun}",
                        "The scene has {number} {noun}")).format(be=be, number=number, noun=noun)


def deed(scene, event, thing, rng):
    span = choose(rng, ("", " during the clip", " for most of the time")) if len(scene.objects) < 3 else ""
    return "the %s %s%s" % (thing.name, verb(event.action, 0, rng if rng.random() < 0.4 else None),
                            span if event.t1 - event.t0 > 0.5 else "")


def make_dialogue_text(scene, rng):
    """All of a scene in 40 to 90 words, so that every question about it can be answered from the text."""
    for _ in range(8):
        text = read_aloud(scene, rng)
        if len(text.split()) <= 90:
            break
    return text


def read_aloud(scene, rng):
    n = len(scene.objects)
    style = int(rng.integers(3 if n < 3 else 2 if n < 4 else 1))
    first = []
    for j, i in enumerate(rng.permutation(n)):
        thing = scene.objects[i]
        where, hidden = place_phrase(scene, thing, rng), thing.actions[0] == "appear"
        if n == 4:
            first.append(article("%s %s %s" % (thing.size, thing.texture, thing.name)) +
                         (" that comes in later " if hidden else " ") + where)
            continue
        lead = "it is" if n == 1 else ("one is" if j == 0 else choose(rng, ("another is", "there is also")))
        first.append(intro(thing, where, style, lead, hidden))
    if n == 4:
        first = [choose(rng, ("they are ", "these are ", "at the start we have ")) + listed(first)]
    second = []
    if scene.camera != "still":
        second = ["the camera moves %s" % verb(scene.camera)[6:], "the objects themselves stay still"]
    elif scene.kind == "sequence":
        leads = ("first ", "then ", "finally ")
        second = [leads[m] + deed(scene, e, scene.objects[i], rng) for m, (e, i) in enumerate(scene.events())]
    else:
        second = [deed(scene, e, scene.objects[i], rng) for e, i in scene.events()]
    idle = [o for o in scene.objects if not o.events]
    if idle and scene.camera == "still":
        second.append("%s stay%s still" % (listed("the " + o.name for o in idle), "s" if len(idle) == 1 else ""))
    count = opening(n, rng)
    tail = [] if scene.camera != "still" else [choose(rng, ("the camera stays still", "the camera does not move"))]
    spare = ["nothing else can be seen in front of the background",
             "the whole clip takes only a few seconds",
             "these are all of the things that happen from the start to the end" if second else
             "this is how it looks from the start to the end",
             "no other shape comes into the picture and none of the colours ever changes"]
    parts = [count] + first + second + tail
    for extra in spare:
        if sum(len(p.split()) for p in parts) >= 42:
            break
        parts.append(extra)
    return " ".join(capital(p) + "." for p in parts)
