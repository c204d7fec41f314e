// SPDX-License-Identifier: MIT
// Asks about frames that the program has made itself, without any file: ask_frames MODEL
#include <ivchat.h>
#include <stdio.h>

enum { N = 8, W = 320, H = 180 };
static uint8_t rgb[N][H][W][3]; // a square that moves to the right

int main(int argc, char **argv)
{
    struct iv_engine_options eo = iv_engine_options_default();
    struct iv_media_options mo = iv_media_options_default();
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer answer = {0};
    struct iv_error e = {0};
    iv_engine *engine = NULL;
    iv_media *media = NULL;
    iv_session *session = NULL;
    for (int t = 0; t < N; t++)
        for (int y = 60; y < 120; y++)
            for (int x = 30 * t; x < 30 * t + 60; x++)
                rgb[t][y][x][0] = 255;
    eo.model = argc > 1 ? argv[1] : "";
    so.time_text = true; // tells the model when each frame was
    ask.max_new_tokens = 40;
    int rc = iv_engine_open(&eo, &engine, &e);
    if (rc == IV_OK)
        rc = iv_media_from_rgb(engine, &rgb[0][0][0][0], N, W, H, 2.0, &mo, &media, &e);
    if (rc == IV_OK)
        rc = iv_session_open(engine, media, &so, &session, &e);
    if (rc == IV_OK)
        rc = iv_session_ask(session, "Which way does the square move?", &ask, &answer, &e);
    if (rc == IV_OK)
        printf("%s\n%s\n", iv_media_info(media)->time_text, answer.text);
    else
        fprintf(stderr, "%s\n", e.message);
    iv_answer_free(&answer);
    iv_session_close(session);
    iv_media_close(media);
    iv_engine_close(engine);
    return rc == IV_OK ? 0 : 1;
}
