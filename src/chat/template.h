// SPDX-License-Identifier: MIT
// Prompt templates as data: the fixed strings that stand around the caller's texts and the media
// markers, one table row a template (SPEC 6.2, 6.3). Nothing else in the tree spells a template.
#ifndef IV_CHAT_TEMPLATE_H
#define IV_CHAT_TEMPLATE_H

#include <stdbool.h>

#include "model/config.h"

// A conversation is, in this order and with nothing in between:
//   instruction_open INSTRUCTION instruction_close           if there is one
//   media_open (mark_open P mark_close)* MSG media_close     if there is media
//   turn_gap user_open Q user_close answer_open A answer_close    for every past turn
//   turn_gap user_open QUESTION user_close answer_open ANSWER_PREFIX
// P is the placeholder that stands for the visual positions of one clip. turn_gap is left out where
// the user turn is the first one of the conversation, i.e. without media and without past turns.
struct chat_template {
    const char *name;
    const char *instruction_open, *instruction_close;
    const char *media_open, *media_close;
    const char *image_open, *image_close;
    const char *video_open, *video_close;
    const char *turn_gap;
    const char *user_open, *user_close;
    const char *answer_open, *answer_close;
    bool one_marker;          // one marker and one clip, whatever the media (8B)
    bool qformer_instruction; // the instruction goes to the Q-Former too (not in the 8B)
};

// The placeholders as they appear in a conversation string; never tokenised.
#define TEMPLATE_IMAGE_MARK "[<IMG_PLH>]"
#define TEMPLATE_VIDEO_MARK "[<VID_PLH>]"

// Static storage, never NULL. Any thread.
const struct chat_template *template_of(enum variant v);

#endif
