# SPDX-License-Identifier: MIT
"""A procedural world of moving shapes: scenes, their pictures, and questions about them.

scene.py draws a scene (pure data), render.py its frames, describe.py its prose, questions.py its questions and
answers; corpus.py and make_videos.py write files. Everything follows from (split, seed).
"""
