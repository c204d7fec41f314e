// SPDX-License-Identifier: MIT
// The prompt templates of the four releases (SPEC 6.2, 6.3). The 8B differs from HD and F16 only in
// the number of markers.
//
// Easy to get wrong: the Mistral user turn has a space in front of [INST] (turn_gap) and around the
// question, but none between "</Video>" and "[/INST]", between "[/INST]" and the answer, or between
// the answer and "</s>". The InternLM history keeps "</s>" behind the newline of <|im_end|>; its
// release file could not be read, so a correction of that template is an edit of this table.
#include "chat/template.h"

enum { TEMPLATE_MISTRAL_ONE, TEMPLATE_MISTRAL, TEMPLATE_INTERNLM2 };

#define MISTRAL_STRINGS                                                                            \
    .instruction_open = "", .instruction_close = "", .media_open = "[INST] ",                      \
    .media_close = "[/INST]", .image_open = "<Image>", .image_close = "</Image>",                  \
    .video_open = "<Video>", .video_close = "</Video>", .turn_gap = " ", .user_open = "[INST] ",   \
    .user_close = " [/INST]", .answer_open = "", .answer_close = "</s>"

static const struct chat_template templates[] = {
    [TEMPLATE_MISTRAL_ONE] = {.name = "mistral-8b", .one_marker = true, MISTRAL_STRINGS},
    [TEMPLATE_MISTRAL] = {.name = "mistral-hd",
                          .one_marker = false,
                          .qformer_instruction = true,
                          MISTRAL_STRINGS},
    [TEMPLATE_INTERNLM2] =
        {
            .name = "internlm2",
            .instruction_open = "<|im_start|>system\n",
            .instruction_close = "<|im_end|>\n",
            .media_open = "<|im_start|>user\n",
            .media_close = "<|im_end|>\n",
            .image_open = "<img>",
            .image_close = "</img>",
            .video_open = "<vid>",
            .video_close = "</vid>",
            .turn_gap = "",
            .user_open = "<|im_start|>user\n",
            .user_close = "<|im_end|>\n",
            .answer_open = "<|im_start|>assistant\n",
            .answer_close = "<|im_end|>\n</s>",
            .one_marker = false,
            .qformer_instruction = true,
        },
};

const struct chat_template *template_of(enum variant v)
{
    switch (v) {
    case VARIANT_8B:
        return &templates[TEMPLATE_MISTRAL_ONE];
    case VARIANT_INTERNLM:
        return &templates[TEMPLATE_INTERNLM2];
    case VARIANT_HD:
    case VARIANT_F16:
        break;
    }
    return &templates[TEMPLATE_MISTRAL];
}
