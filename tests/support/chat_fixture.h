// SPDX-License-Identifier: MIT
// What the tests of src/chat share: a tokenizer small enough to know by heart, requests, hostile text.
#ifndef IV_TEST_CHAT_FIXTURE_H
#define IV_TEST_CHAT_FIXTURE_H

#include <stddef.h>

#include "chat/prompt.h"
#include "text/tokenizer.h"

// Ids of the small tokenizer (Mistral kind): control tokens, the 256 bytes, a few words.
enum { SMALL_END = 2, SMALL_INST = 3, SMALL_CONTROL9 = 5, SMALL_BYTE = 6, SMALL_WORD = 6 + 256 };
enum { WORD_SPACE, WORD_SPACE_THE, WORD_THE, WORD_AB, WORD_BC, WORD_E_ACUTE, SMALL_N_WORD };
enum { SMALL_N_VOCAB = SMALL_WORD + SMALL_N_WORD };

// To tokenizer_close. Fails the running test if it cannot be made.
struct tokenizer *small_tokenizer(void);

enum { N_QUERY = 96 };

struct prompt_request prompt_request_of(enum variant v, enum prompt_media media, size_t n_clip,
                                        const char *question);
// Puts text in every place of a request that takes a caller's text; two past turns.
void prompt_request_fill(struct prompt_request *r, struct prompt_turn turn[2], const char *text);

void expect_conversation(const struct prompt_request *r, const char *want);

// Positions that hold control ids.
size_t prompt_count_added(const struct tokenizer *t, const struct prompt *p);
// Whatever a caller's texts say, a prompt has the control ids of its template and no others.
void expect_hostile_stays_text(const struct tokenizer *t, enum variant v, enum prompt_media media);

#endif
