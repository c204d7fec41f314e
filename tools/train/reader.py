# SPDX-License-Identifier: MIT
"""The base language model: reads a scene told in words and answers about it. It stands for the pretrained model that the
published scheme begins with; from then on it is frozen, and LoRA adapts it."""
from train.packing import Packed
from world.describe import make_dialogue_text
from world.questions import make_questions
from world.scene import sample_scene

NO_MEDIA = ("There is no video to look at.", "I do not see a video.", "Please show me a video first.")


def conversations(encoder, items):
    return [c for item in items for c in encoder.conversations(item)]


def row(encoder, rng, seed, k):
    scene = sample_scene(int(seed), 'train')
    told = make_dialogue_text(scene, rng)
    items = make_questions(scene, rng, 'train', k)
    return encoder.text_prefix(told), conversations(encoder, items)


def lonely(encoder, rng, seed):
    """Questions without anything to look at."""
    scene = sample_scene(int(seed), 'train')
    questions = [item['turns'][0]['q'] for item in make_questions(scene, rng, 'train', 4)]
    return [], [encoder.alone(q, NO_MEDIA[int(rng.integers(len(NO_MEDIA)))]) for q in questions]


def batch(encoder, rng, seeds, k):
    rows = [row(encoder, rng, s, k) for s in seeds]
    if rng.random() < 0.2:
        rows[0] = lonely(encoder, rng, seeds[0])
    return Packed(rows, prefix_weight=0.3)
