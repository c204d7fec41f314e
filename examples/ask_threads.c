// SPDX-License-Identifier: MIT
// Several conversations at a time on one engine, one thread each: ask_threads MODEL VIDEO
#include <ivchat.h>
#include <pthread.h>
#include <stdio.h>

enum { N = 3 };

struct talk {
    iv_engine *engine;
    const char *video, *question;
    struct iv_answer answer;
    struct iv_error error;
    int rc;
    pthread_t thread;
};

static void *run(void *arg)
{
    struct talk *t = arg;
    struct iv_media_options mo = iv_media_options_default();
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    iv_media *media = NULL;
    iv_session *session = NULL;
    ask.max_new_tokens = 40;
    t->rc = iv_media_open_video(t->engine, t->video, &mo, &media, &t->error);
    if (t->rc == IV_OK)
        t->rc = iv_session_open(t->engine, media, &so, &session, &t->error);
    if (t->rc == IV_OK) // who comes when another has encoded the video finds it in the engine's cache
        t->rc = iv_session_ask(session, t->question, &ask, &t->answer, &t->error);
    iv_session_close(session);
    iv_media_close(media);
    return NULL;
}

int main(int argc, char **argv)
{
    static const char *const questions[N] = {"What happens?", "Where is it?", "Who is there?"};
    struct iv_engine_options eo = iv_engine_options_default();
    struct iv_error e = {0};
    struct talk talk[N];
    int started = 0;
    iv_engine *engine = NULL;
    eo.model = argc > 1 ? argv[1] : "";
    int rc = iv_engine_open(&eo, &engine, &e);
    if (rc != IV_OK)
        fprintf(stderr, "%s\n", e.message);
    pthread_attr_t room; // ivchat.h says how much stack a thread needs; some systems give less
    pthread_attr_init(&room);
    pthread_attr_setstacksize(&room, (size_t)1 << 20);
    for (int i = 0; rc == IV_OK && i < N; i++) {
        talk[i] = (struct talk){engine, argc > 2 ? argv[2] : "", questions[i], {0}, {0}, 0, 0};
        if (pthread_create(&talk[i].thread, &room, run, &talk[i]) != 0)
            break;
        started++;
    }
    pthread_attr_destroy(&room);
    for (int i = 0; i < started; i++) {
        pthread_join(talk[i].thread, NULL);
        printf("%s\n%s\n", questions[i],
               talk[i].rc == IV_OK ? talk[i].answer.text : talk[i].error.message);
        rc = rc == IV_OK ? talk[i].rc : rc;
        iv_answer_free(&talk[i].answer);
    }
    iv_engine_close(engine);
    return rc == IV_OK && started == N ? 0 : 1;
}
