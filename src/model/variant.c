// SPDX-License-Identifier: MIT
// Which release a model is: names, and the guess where the files do not tell. (SPEC 8)
// Easy to get wrong: "bf16" in a name is a number format, not the 16-frame release.
#include <ctype.h>
#include <string.h>

#include "model/config_parts.h"

enum { N_FRAME_F16 = 16 };

static const char *const variant_names[] = {[VARIANT_8B] = "8b",
                                            [VARIANT_HD] = "hd",
                                            [VARIANT_F16] = "f16",
                                            [VARIANT_INTERNLM] = "internlm"};
enum { N_VARIANT = sizeof variant_names / sizeof variant_names[0] };

const char *variant_name(enum variant v)
{
    return (unsigned)v < N_VARIANT ? variant_names[v] : "?";
}

bool variant_from_name(const char *s, enum variant *out)
{
    for (unsigned i = 0; i < N_VARIANT; i++) {
        if (strcmp(s, variant_names[i]) == 0) {
            *out = (enum variant)i;
            return true;
        }
    }
    return false;
}

// word (lower case) in name, in any case, with no letter or digit at either side: "bf16" is no "f16".
static bool has_word(const char *name, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = name; *p; p++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)p[i]) == word[i])
            i++;
        if (i == n && (p == name || !isalnum((unsigned char)p[-1])) &&
            !isalnum((unsigned char)p[n]))
            return true;
    }
    return false;
}

// The 8B, HD and F16 releases have alike files, so only names tell them apart: "InternVideo2-Chat-8B",
// "InternVideo2_chat_8B_HD", "..._HD_F16". What tells nothing is taken for HD, the release that the
// published quick start is about.
enum variant variant_guess(const struct model_config *c, const char *const *name, size_t n)
{
    if (c->llm.kind == LLM_INTERNLM2)
        return VARIANT_INTERNLM;
    if (c->n_frame == N_FRAME_F16)
        return VARIANT_F16;
    for (size_t i = 0; i < n; i++) {
        if (!name[i])
            continue;
        if (has_word(name[i], "f16") || has_word(name[i], "hdf16"))
            return VARIANT_F16;
        if (has_word(name[i], "hd"))
            return VARIANT_HD;
        if (has_word(name[i], "8b"))
            return VARIANT_8B;
    }
    return VARIANT_HD;
}

void config_set_variant(struct model_config *c, enum variant v)
{
    if (v == VARIANT_F16)
        c->n_frame = N_FRAME_F16;
    else if (c->variant == VARIANT_F16)
        c->n_frame = CONFIG_N_FRAME;
    c->variant = v;
}
