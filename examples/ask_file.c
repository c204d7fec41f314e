// SPDX-License-Identifier: MIT
// Asks two questions about a video file: ask_file MODEL VIDEO
#include <ivchat.h>
#include <stdio.h>

static void show(void *user, const char *piece, size_t n)
{
    fwrite(piece, 1, n, user);
    fflush(user);
}

int main(int argc, char **argv)
{
    static const char *const questions[] = {"What happens?", "And after that?"};
    struct iv_engine_options eo = iv_engine_options_default();
    struct iv_media_options mo = iv_media_options_default();
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_error e = {0};
    iv_engine *engine = NULL;
    iv_media *media = NULL;
    iv_session *session = NULL;
    eo.model = argc > 1 ? argv[1] : "";
    ask.max_new_tokens = 40;
    ask.user = stdout;
    ask.text = show; // pieces of the answer as they come
    int rc = iv_engine_open(&eo, &engine, &e);
    if (rc == IV_OK)
        rc = iv_media_open_video(engine, argc > 2 ? argv[2] : "-", &mo, &media, &e);
    if (rc == IV_OK)
        rc = iv_session_open(engine, media, &so, &session, &e);
    for (int i = 0; rc == IV_OK && i < 2; i++) { // the second question reuses all but itself
        struct iv_answer answer;
        rc = iv_session_ask(session, questions[i], &ask, &answer, &e);
        if (rc == IV_OK)
            printf("\n(%zu of %zu prompt tokens reused)\n", answer.cached_tokens,
                   answer.prompt_tokens);
        iv_answer_free(&answer);
    }
    if (rc != IV_OK)
        fprintf(stderr, "%s\n", e.message);
    iv_session_close(session);
    iv_media_close(media);
    iv_engine_close(engine);
    return rc == IV_OK ? 0 : 1;
}
