# SPDX-License-Identifier: MIT
"""Trains the small shipped model through the published stages in small; see docs/TRAINING.md."""
