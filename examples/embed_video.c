// SPDX-License-Identifier: MIT
// The features of a video, averaged to one vector: embed_video MODEL VIDEO
#include <ivchat.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct iv_engine_options eo = iv_engine_options_default();
    struct iv_media_options mo = iv_media_options_default();
    struct iv_error e = {0};
    iv_engine *engine = NULL;
    iv_media *media = NULL;
    float *rows = NULL; // [clips, 96, width]
    size_t dim[6];
    unsigned n_dim;
    eo.model = argc > 1 ? argv[1] : "";
    int rc = iv_engine_open(&eo, &engine, &e);
    if (rc == IV_OK)
        rc = iv_media_open_video(engine, argc > 2 ? argv[2] : "", &mo, &media, &e);
    if (rc == IV_OK)
        rc = iv_media_stage(media, IV_STAGE_QFORMER, NULL, &rows, dim, &n_dim, &e);
    for (size_t k = 0; rc == IV_OK && k < dim[2]; k++) {
        double sum = 0;
        for (size_t i = 0; i < dim[0] * dim[1]; i++)
            sum += (double)rows[i * dim[2] + k];
        printf("%.6g%c", sum / (double)(dim[0] * dim[1]), k + 1 < dim[2] ? ' ' : '\n');
    }
    if (rc != IV_OK)
        fprintf(stderr, "%s\n", e.message);
    iv_free(rows);
    iv_media_close(media);
    iv_engine_close(engine);
    return rc == IV_OK ? 0 : 1;
}
