# SPDX-License-Identifier: MIT
"""When an answer is right, and what guessing would get.

A turn of questions.jsonl has `accept`, a list of groups of phrases, and `reject`, a list of phrases. An answer is right
when at least one phrase of every group occurs in it and no phrase of reject does. Phrases occur as whole words:
letter case and punctuation do not count, a hyphen inside a word does ("up-left" is one word and not "left"). The letter
of an option, "A)", occurs with its bracket, or as the whole answer: an "a" elsewhere is a word.
"""
import collections
import functools
import math
import re

OPTION = re.compile(r"^\s*\(([A-Z])\) ", re.MULTILINE)
LETTER = re.compile(r"\(?([A-Z])\)")
POOL_MAX = 400  # different answers that stand for a guess


def words(text):
    """The words of a text, lower case: "It's (A) red." -> its a red"""
    return re.findall(r"\w+(?:-\w+)*", re.sub(r"['\u2019]", "", text.lower()))


@functools.lru_cache(maxsize=1 << 16)
def spaced(text):
    """The words between single blanks, one blank at either end; a blank alone when there are none."""
    return " ".join(["", *words(text), ""]) or " "


def occurs(phrase, text):
    """Whether the words of phrase stand in text, one after the other."""
    letter = LETTER.fullmatch(phrase)
    if letter:
        return bool(re.search(r"(?<!\w)%s\)" % letter[1], text, re.IGNORECASE)) or words(text) == words(phrase)
    return spaced(phrase) != " " and spaced(phrase) in spaced(text)


def is_right(answer, turn):
    return all(any(occurs(phrase, answer) for phrase in group) for group in turn["accept"]) and \
        not any(occurs(phrase, answer) for phrase in turn.get("reject") or [])


def all_right(answers, turns):
    """Whether each answer is right for its turn; there must be one for each."""
    return len(answers) == len(turns) and all(is_right(a, t) for a, t in zip(answers, turns))


def guessing(questions):
    """(chance, constant): the share that is right when the answer of another question of the same kind is given, on
    average, and when one and the same answer is always given, at best.

    Questions with lettered options have the chance of their number of options. Only questions with the same number of
    turns can lend their answers.
    """
    if not questions:
        return 0.0, 0.0
    chance = 0.0
    best = 0
    for n in sorted({len(q["turns"]) for q in questions}):
        group = [q for q in questions if len(q["turns"]) == n]
        pool = collections.Counter(tuple(t["a"] for t in q["turns"]) for q in group).most_common(POOL_MAX)
        total = sum(count for _, count in pool)
        hits = [[all_right(answers, q["turns"]) for answers, _ in pool] for q in group]
        for q, row in zip(group, hits):
            options = [len(OPTION.findall(t["q"])) for t in q["turns"]]
            if min(options) >= 2:
                chance += 1 / math.prod(options)
            else:
                chance += sum(count for hit, (_, count) in zip(row, pool) if hit) / total
        best += max(sum(column) for column in zip(*hits))
    return chance / len(questions), best / len(questions)


def interval(right, n):
    """95 % interval of a share (Wilson)."""
    if n == 0:
        return 0.0, 1.0
    z = 1.96
    p, d = right / n, 1 + z * z / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / d), min(1.0, (middle + half) / d)
