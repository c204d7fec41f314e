# SPDX-License-Identifier: MIT
"""The wordings of the questions, as data: [a|b] = either; {slots} are filled by questions.py.

{r} an object; {v} video or picture; {start} at the start; {s} plural shape; {a} a red circle; {c} colour; {x}, {y}
events as clauses ("the red circle grows"), {xi} the same as an infinitive, {d} {ds} {dg} a deed in its three forms.
About every eighth expanded wording of a list is held out: it occurs in "val" and "test" only.
"""
import collections
import itertools
import re

VIDEO = ("video", "clip", "film", "footage")
IMAGE = ("picture", "image", "photo", "frame")
HELD_EVERY, HELD_AT = 8, 5

TABLES = {
    "colour": (
        "[What|Which] colour is {r}?", "[What|Which] colour does {r} have?", "[Tell|Show] me the colour of {r}.",
        "What is the colour of {r}[?| in this {v}?]", "[Name|State|Give] the colour of {r}.",
        "[Can|Could] you tell me [what|which] colour {r} is?",
        "In [what|which] colour is {r} [painted|drawn|shown]?", "Do you know the colour of {r}?",
        "How is {r} coloured?", "What [paint|shade|hue] was used for {r}?", "{r} has which colour?",
        "I would like to know the colour of {r}.", "[Which|What] colour can you see on {r}?",
        "{r}: which colour is it?"),
    "shape": (
        "[What|Which] shape is {r}?", "[What|Which] shape does {r} have?", "What is the shape of {r}?",
        "[Name|Identify|Give] the shape of {r}.", "[Can|Could] you tell me [what|which] shape {r} is?",
        "What kind of [shape|figure] is {r}?", "What [form|outline] does {r} have?", "What is {r} shaped like?",
        "Which geometric [form|figure] is {r}?", "Say what shape {r} has.", "How is {r} shaped?",
        "[Classify|Recognise] the shape of {r}.", "If you had to draw {r}, [what|which] shape would it be?",
        "Please tell me the [form|shape] of {r}."),
    "count": (
        "How many [objects|things|figures|items|shapes] are there[?| in the {v}?| in total?]",
        "How many [objects|things|figures|shapes] [can you see|do you notice|are visible|does the {v} show]?",
        "What is the [total number|number] of [objects|shapes]?", "Count the [objects|things|shapes] in the {v}.",
        "What [amount|quantity] of objects do you count?", "Are there many objects? How many?",
        "[Give|Tell me] the number of [objects|figures]."),
    "count_start": (
        "How many [objects|things|shapes] are there at the [start|beginning]?",
        "How many [objects|figures] can you see when the {v} [starts|begins]?",
        "With how many objects does the {v} begin?"),
    "count_end": (
        "How many [objects|things|shapes] are [there|left] at the end?",
        "How many [objects|figures] can you see when the {v} [ends|is over]?",
        "With how many objects does the {v} end?"),
    "count_kind": (
        "How many {s} are there[?| in the {v}?]", "How many {s} [can you see|do you see|do you notice]?",
        "What is the number of {s}?", "Count the {s}[.| for me.]",
        "[How many|What number] of the objects are {s}?"),
    "count_colour": (
        "How many {c} [objects|things|shapes] are there?", "How many of the [objects|things] are {c}?",
        "How many objects have the colour {c}?", "Count the {c} [things|figures].",
        "How many {c} [objects|items] do you [see|notice|find]?"),
    "count_move": (
        "How many [objects|things|figures] move?",
        "How many of the [objects|things|shapes] [are moving|are in motion]?",
        "Count the [objects|things] that move.",
        "How many [shapes|objects] [change their place|do not stay still]?",
        "What is the number of moving [objects|things]?"),
    "way": (
        "[Which way|In which direction|In what direction] does {r} [move|go|travel]?",
        "Where does {r} [move|go] to?", "[What|Which] direction does {r} [move|go|head] in?",
        "What is the direction of {r}?", "[Tell me|Say] which way {r} [moves|goes].",
        "Towards which side does {r} [move|travel]?", "What is the path of {r}?",
        "Which side of the screen does {r} approach?", "[Report|Determine] the direction of {r}.",
        "If you follow {r}, which way do you look?"),
    "deed": (
        "What does {r} do?", "What is {r} doing?", "What [happens|is happening] to {r}?",
        "How does {r} [move|behave|act]?", "[Describe|Tell me] what {r} does.",
        "What [action|activity] does {r} [perform|show|carry out]?",
        "What can you [say|report] about the [motion|behaviour] of {r}?", "[Watch|Look at] {r}: what does it do?",
        "What do you [notice|observe] about {r} over time?",
        "[Keep your eyes on|Follow|Track] {r}: what does it do?", "[Explain|Mention|Note] what {r} does.",
        "In what manner does {r} [behave|move]?"),
    "first": (
        "What happens first[?| in the {v}?]", "What is the first [thing that happens|event|action]?",
        "How does the action [begin|start]?", "Which event [comes|occurs|takes place] first?",
        "What happens at the very beginning?", "What do you see happen [first|before anything else]?",
        "Tell me the [first|earliest] event."),
    "last": (
        "What happens last[?| in the {v}?]", "What is the [last|final] [thing that happens|event|action]?",
        "How does the action [end|finish|conclude]?", "Which event [comes|occurs|takes place] last?",
        "What happens at the very end?", "What do you see happen [last|in the end]?",
        "Tell me the [last|latest] event."),
    "after": (
        "What [happens|takes place|occurs] after {x}?", "What comes after {x}?", "What follows after {x}?",
        "[Which|What] event [comes|occurs] after {x}?", "{x}. What happens [then|afterwards|later]?"),
    "right_after": (
        "What happens [right|directly|immediately] after {x}?", "{x}. What happens next?",
        "What is the next [event|thing that happens] after {x}?", "What happens as soon as {x}?",
        "[Which|What] event comes [right|directly] after {x}?"),
    "before": (
        "What [happens|takes place|occurs] before {x}?", "What comes before {x}?", "What goes on before {x}?",
        "[Which|What] event [comes|occurs] before {x}?", "{x}. What happened [before|earlier|previously]?"),
    "right_before": (
        "What happens [right|directly|immediately|just] before {x}?",
        "[Which|What] event comes [right|directly] before {x}?", "{x}. What happened just before?",
        "What is the last thing that happens before {x}?"),
    "who_first": (
        "Which [object|thing|shape] [acts|does something|starts] first?",
        "[What|Which object] is the first to [act|become active]?",
        "Which [object|figure] [changes or moves|becomes active] first?",
        "Name the [object|thing] that acts first.", "Who [opens|leads] the sequence?",
        "Which object is the earliest to act?"),
    "who_last": (
        "Which [object|thing|shape] [acts|does something] last?",
        "[What|Which object] is the last to [act|become active]?",
        "Which [object|figure] [changes or moves|becomes active] last?", "Name the [object|thing] that acts last.",
        "Who [closes|completes] the sequence?", "Which object waits longest before it acts?"),
    "earlier": (
        "Does {xi} before {y}?", "Does {xi} [first|earlier], before {y}?",
        "Is it [true|right|correct] that {x} before {y}?", "Is it before {y} that {x}?",
        "{x} before {y}. Is that [true|right|correct]?", "Would you say that {x} before {y}?"),
    "exist": (
        "Is there {a}[?| in the {v}?| anywhere?]", "[Can|Do] you see {a}[?| in the {v}?]",
        "Does the {v} [show|contain|include] {a}?", "Is {a} [visible|present|shown]?", "Do you [notice|find] {a}?",
        "Does {a} occur in the {v}?", "Can {a} be [seen|found]?", "[Is it possible to|Could a viewer] spot {a}?",
        "Have you [spotted|noticed|seen] {a}?"),
    "exist_deed": (
        "Does [anything|something|any object|any of the objects] {d}?",
        "Is there [anything|something|an object] that {ds}?", "Do you see [anything|something] {dg}?",
        "Can you [see|notice] an object {dg}?"),
    "change": (
        "What changes[?| in the {v}?| over time?]",
        "What [is different|has changed] between the start and the end?",
        "What [change|difference] do you [see|notice]?", "Which change [takes place|happens|occurs]?",
        "[Describe|Name] the change in the {v}.", "[Tell me|Say] what changes.",
        "What becomes different as time passes?",
        "[Spot|Find|Point out] the difference between the first and the last moment.",
        "Compare the start with the end: what is new?"),
    "change_kind": (
        "What about {r} changes, its size or its [place|position]?",
        "Does {r} change its size or its [place|position]?",
        "[Which|What] changes for {r}: the size or the [position|place]?",
        "Is it the size or the [place|position] of {r} that changes?"),
    "change_size": (
        "Does the size of {r} change?", "Does {r} [change in size|change its size]?",
        "Does {r} become larger or smaller?", "Is there any change in the size of {r}?",
        "Does the size of {r} [vary|become different]?"),
    "size": (
        "[How big|How large] is {r}?", "[What|Which] size is {r}?", "[What|Which] size does {r} have?",
        "What is the size of {r}?", "Is {r} small, medium or large?", "[Tell me|Give|State] the size of {r}.",
        "Would you call {r} small, medium or large?",
        "How would you [describe|rate|judge|estimate] the size of {r}?",
        "Compared with the frame, how large is {r}?", "[Can|Could] you tell me how [big|large] {r} is?"),
    "texture": (
        "Is {r} plain, striped or dotted?", "[What|Which] [pattern|texture] does {r} have?",
        "What is the [pattern|texture] of {r}?", "Does {r} have stripes, dots or neither?",
        "How is {r} [patterned|decorated|filled]?", "[Describe|Tell me] the [pattern|texture] of {r}.",
        "[What|Which] pattern can you see on {r}?", "What does the surface of {r} look like?",
        "Is there [any pattern|any texture|a decoration] on {r}?",
        "Has {r} been painted with stripes, with dots or evenly?"),
    "side": (
        "Is {r} [on|at] the left or [on|at] the right{start}?", "Is {r} in the left or the right half{start}?",
        "[On which|On what] side is {r}{start}, left or right?",
        "[Which|What] half holds {r}{start}, the left or the right one?",
        "Where is {r}{start}, on the left or on the right?", "Do you find {r} on the left or on the right{start}?"),
    "level": (
        "Is {r} [at|near] the top or the bottom{start}?", "Is {r} in the top or the bottom half{start}?",
        "[Which|What] half holds {r}{start}, the top or the bottom one?",
        "Where is {r}{start}, at the top or at the bottom?", "Do you find {r} at the top or at the bottom{start}?",
        "How high is {r}{start}, near the top or near the bottom?"),
    "camera": (
        "[Does|Did] the camera move?", "How does the camera [move|behave]?", "What does the camera do?",
        "[Which way|In which direction] does the camera [move|pan]?", "Is the camera moving or [still|fixed]?",
        "Is the camera fixed or in motion?", "Describe the [movement|motion] of the camera.",
        "Is there any camera [movement|motion]?", "What can you say about the camera?",
        "Does the [view|viewpoint] pan, and where to?", "Tell me [how|whether] the camera moves.",
        "Was the camera [held|mounted] still?", "Does the whole background shift because the camera moves?",
        "How was the camera [handled|operated|guided]?"),
    "describe": (
        "Describe the {v}[.| briefly.| in a few words.]",
        "What [do you see|can you see|is shown|happens] in the {v}?", "What is the {v} about?",
        "[Tell|Explain to] me what the {v} shows.",
        "[Give|Write] a [short|brief] [description|summary] of the {v}.", "[Summarise|Summarize] the {v}.",
        "What is going on [here|in this {v}]?", "[Write|Suggest] a caption for this {v}.",
        "Please describe [everything|all] you see.", "Put the content of the {v} into words.",
        "What would you write [under|below] this {v}?", "Imagine I cannot see: what is in the {v}?",
        "Describe the [scene|contents] for a blind person.", "[Report|Outline] what the {v} shows.",
        "What does the {v} show?"),
    "steps": (
        "Describe the action step by step.", "[Tell|Explain to] me step by step what happens.",
        "[List|Name] the events in [order|their order].", "What happens, [step by step|one after another]?",
        "[Describe|Explain] the [sequence|order] of events.", "Give the steps of the action[.| in order.]",
        "[Go|Walk] through the action step by step.", "In what order do things happen?",
        "Recount the events from the [start|beginning] to the end.",
        "[Retell|Narrate] the story of the objects in order.", "Make a [timeline|protocol|list] of the events.",
        "Which steps can you distinguish?"),
    "it_colour": (
        "[And what|What|Which] colour is it?", "What is its colour?", "And its colour?",
        "[Which|What] colour does it have?", "Tell me its colour, too."),
    "it_shape": (
        "[And what|What|Which] shape is it?", "What is its shape?", "And its shape?",
        "[Which|What] shape does it have?", "What kind of figure is it?"),
    "it_size": (
        "[And how|How] [big|large] is it?", "What is its size?", "And its size?", "Is it small, medium or large?"),
    "it_texture": (
        "Is it plain, striped or dotted?", "[What|And what] [pattern|texture] does it have?",
        "What is its pattern?"),
    "it_deed": (
        "[And what|What] does it do?", "What is it doing?", "What happens to it?", "[And how|How] does it behave?"),
    "it_way": (
        "[And which|Which] way does it [move|go]?", "In which direction does it [move|go|travel]?",
        "Where does it [move|go] to?"),
    "it_side": (
        "[And is|Is] it on the left or on the right{start}?", "On which side is it{start}, left or right?"),
    "other": (
        "What is the other [one|object|thing]?", "[And what|What] about the other [one|object]?",
        "Which other object is there?", "Name the other [one|object], please.",
        "What else [is there|can you see]?"),
    "other_colour": (
        "What colour is the other [one|object|thing]?", "And the colour of the other [one|object]?",
        "Which colour does the other one have?"),
    "other_shape": (
        "What shape is the other [one|object|thing]?", "And the shape of the other [one|object]?",
        "Which shape does the other one have?"),
    "next": (
        "[And what|What] happens next?", "[And then|What then]?", "What comes [next|after that]?",
        "[And what|What] happens after that?", "How does it [go on|continue]?"),
    "names": (
        "What are they?", "[Name|List] them[.|, please.]", "Which [ones|objects]?",
        "[And what|What] do they look like?", "Can you [name|list] them?"),
}

OPENERS = (
    "Hello! ", "Hi there! ", "Good morning. ", "Good evening. ", "Quick question: ", "Please answer: ",
    "Look closely. ", "Pay attention. ", "I am curious. ", "Help me out here. ", "One more question: ",
    "Think carefully. ", "Take your time. ", "My friend asks: ", "I could not tell by myself. ",
    "Here is a little riddle. ", "We made this {v} today. ", "My screen is quite dark. ",
    "A child wants to know: ", "Just between us: ", "This may sound silly, but tell me. ", "Be honest with me. ",
    "Thanks for your help. ", "Excuse me, ", "Sorry to bother you. ", "Let us play a game. ",
    "Have a look at this {v}. ", "Our teacher wrote this down: ", "Answer if you can. ", "No need to hurry. ",
    "It should be easy for you. ", "I missed it because somebody called. ",
    "The sound is off, only the screen matters. ", "Let me test your eyes. ", "You are a careful viewer. ",
    "Dear assistant, ", "I have watched it twice already. ", "Nobody around me could answer that. ", "Next task: ",
    "Once again from the start: ", "For my homework: ", "A simple one: ", "Now for something harder. ",
    "Try this one. ", "According to the {v}: ", "Keep it short. ", "I need a clear reply. ",
    "Check it well before you reply. ", "They say machines cannot do this. ", "Without guessing: ",
    "My grandmother cannot see well, so please help her. ", "We are making a quiz for the school. ",
    "I was drinking coffee and looked away. ", "A robot should understand this. ",
    "Yesterday you were wrong, today be right. ", "The jury wants an answer: ", "Imagine you are a detective. ",
    "A student of mine argued about it. ", "Our camera recorded something strange. ",
    "Somebody sent me this {v} by mail. ", "I will read your reply aloud. ", "It is rather late, but never mind. ",
    "Nice to meet you! ", "Could be tricky: ", "Warming up: ", "As an expert, ",
    "My colleagues disagree about it. ", "Ready for another puzzle? ", "Use your own words. ", "Speak plainly. ",
    "This matters for our report. ", "The kids love these shapes. ", "I lost my glasses this morning. ",
    "Suppose a blind person asks you: ", "With all due respect, ", "For the record: ", "Before we continue, ",
    "A visitor from abroad would like to learn: ", "Since you watched carefully: ", "Small favour: ",
    "Only facts, no stories. ")
SHORT_INSTRUCTIONS = ("Answer in one short sentence.\n", "Pay attention to the colours and shapes.\n",
                      "Look at all objects, one after another.\n")
VIDEO_INSTRUCTIONS = ("Watch the video and answer the question.\n", "Look at the objects and their motion.\n",
                      "Pay attention to the order of events.\n")
PROTOCOL = ("Carefully watch the video and pay attention to the cause and sequence of events, the detail and "
            "movement of objects, and the action and pose of persons. Based on your observations, select the best "
            "option that accurately addresses the question.\n")


def expand(template):
    parts = [p[1:-1].split("|") if p.startswith("[") else [p] for p in re.findall(r"\[[^\]]*\]|[^\[]+", template)]
    return ["".join(c) for c in itertools.product(*parts)]


EXPANDED = {key: [w for t in table for w in expand(t)] for key, table in TABLES.items()}


def words(text):
    return set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", "", text).lower()))


def hold_out():
    """{key: held-out wordings}: about every eighth, and none whose words training would not see elsewhere."""
    left = collections.Counter(w for ws in EXPANDED.values() for text in ws for w in words(text))
    held = {}
    for key, ws in EXPANDED.items():
        held[key] = set()
        for turn in range(max(1, round(len(ws) / HELD_EVERY))):
            for n in range(turn * HELD_EVERY + HELD_AT, (turn + 1) * HELD_EVERY + HELD_AT):
                text = ws[n % len(ws)]
                if text not in held[key] and all(left[w] > 1 for w in words(text)):
                    held[key].add(text)
                    left.subtract(words(text))
                    break
    return held


HELD = hold_out()
TRAIN = {key: [w for w in ws if w not in HELD[key]] for key, ws in EXPANDED.items()}


def wordings(key=None):
    """All question wordings (of one list, or of all)."""
    return list(EXPANDED[key]) if key else [w for ws in EXPANDED.values() for w in ws]
