// SPDX-License-Identifier: MIT
// Licences and access terms of the published weights, as their model cards and SPEC section 8 give
// them; ivchat itself contains none of these weights. And of the small model that ships with it, which
// is known by the name of its folder.
//
// Easy to get wrong: two licences apply, that of the release and that of the language model inside
// it; a model whose variant is known need not be the published one (the test models are not).

#include <string.h>

#include "info.h"

static const struct published releases[] = {
    {"8b", "InternVideo2-Chat-8B", "OpenGVLab/InternVideo2-Chat-8B", "MIT",
     "on request; not for experiments that harm human subjects",
     "mistralai/Mistral-7B-Instruct-v0.3", "Apache-2.0, access on request"},
    {"hd", "InternVideo2-Chat-8B-HD", "OpenGVLab/InternVideo2_chat_8B_HD", "MIT",
     "on request; not for experiments that harm human subjects",
     "mistralai/Mistral-7B-Instruct-v0.3", "Apache-2.0, access on request"},
    {"f16", "InternVideo2-Chat-8B-HD-F16", NULL, "not stated", "weights are not published",
     "mistralai/Mistral-7B-Instruct-v0.3", "Apache-2.0, access on request"},
    {"internlm", "InternVideo2-Chat-8B-InternLM", "OpenGVLab/InternVideo2_Chat_8B_InternLM2_5",
     "see its model card", "reported as open", "internlm/internlm2_5-7b-chat-1m",
     "see its model card"},
};

static const struct published shipped = {
    NULL, "ivchat-small", NULL, "MIT", "free", NULL, NULL,
};

const struct published *published_find(const char *variant, const char *name)
{
    if (strcmp(name, shipped.name) == 0)
        return &shipped;
    for (size_t i = 0; i < sizeof releases / sizeof *releases; i++) {
        if (strcmp(releases[i].variant, variant) == 0)
            return &releases[i];
    }
    return NULL;
}
