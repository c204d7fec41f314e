// SPDX-License-Identifier: MIT
// What a conversation is made of. Only the session_*.c files and ask.c include this.
#ifndef IV_ENGINE_SESSION_H
#define IV_ENGINE_SESSION_H

#include "chat/prompt.h"
#include "engine/engine.h"
#include "engine/runner.h"

struct turn {
    char *question, *answer; // zero-terminated copies
    size_t answer_len;       // an answer may hold NUL
    bool answer_special;     // the model generated control tokens in it
};

struct iv_session {
    const iv_engine *engine;
    iv_media *media; // borrowed, may be NULL
    struct iv_callbacks callbacks;
    char *instruction, *msg;
    bool allow_special, time_text, keep_cache;
    struct turn *turn;
    size_t n_turn, cap_turn;
    struct shared_rows *rows; // [n_visual, d_llm] of the media for the instruction
    struct runner runner;
    struct ids cached; // ids of the prompt whose keys are in the KV
    float *logits;     // [n_vocab] of the last position of the prompt
    struct iv_ask_options last;
};

// Appends a turn; answer has answer_len bytes.
int session_add_turn(iv_session *s, const char *question, const char *answer, size_t answer_len,
                     bool special, struct err *e);
// Visual positions of a prompt.
size_t session_n_visual(const iv_session *s);
// The ids of the next turn; prompt_free releases them.
int session_prompt(const iv_session *s, const char *question, const char *answer_prefix,
                   struct prompt *out, struct err *e);
// s->rows = the encoded media for this session's instruction.
int session_encode(iv_session *s, struct encode_times *t, struct err *e);
// The same for a file: rows that are there are those that would be made, also without caches.
int session_rows(iv_session *s, struct err *e);
// Fills the KV cache with the prompt and s->logits with its last position; *n_cached positions were there.
// Stopped or failed it keeps what it has computed. Between session_wake and session_rest.
int session_prefill(iv_session *s, const struct prompt *p, size_t max_new, size_t *n_cached,
                    struct err *e);

// The KV is the engine's while the session is in no call, and may be gone when the next one begins.
int session_wake(iv_session *s, struct err *e);
void session_rest(iv_session *s);

#endif
