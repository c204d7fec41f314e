// SPDX-License-Identifier: MIT
// Which files of a model directory make its tokenizer.
//   MISTRAL: tokenizer.json, else tokenizer.model; INTERNLM2: tokenizer.model, since its tokenizer.json
//   belongs to the fast tokenizer, which is another one. tokenizer_config.json names the added tokens of a
//   tokenizer.model.
// Easy to get wrong: a file that is there but damaged is an error; the next one is not tried.
#include <unistd.h>

#include "base/buf.h"
#include "base/filemap.h"
#include "base/mem.h"
#include "text/tokenizer.h"

enum { FILE_MAX_BYTES = 32 << 20 }; // of each tokenizer file; the published ones have 2 MB or less

static int join_path(struct buf *path, const char *dir, const char *file, struct err *e)
{
    buf_reset(path);
    if (!buf_printf(path, "%s/%s", dir, file))
        return err_set(e, ERR_LIMIT, "%s: out of memory", file);
    return 0;
}

static int open_model_file(const char *dir, struct buf *path, enum tokenizer_kind kind,
                           struct tokenizer **out, struct err *e)
{
    char *config = NULL, *model = NULL;
    size_t n_config = 0, n;
    int rc;
    TRY(join_path(path, dir, "tokenizer_config.json", e));
    if (access(path->data, F_OK) == 0)
        TRY(file_read(path->data, FILE_MAX_BYTES, ERR_MODEL, &config, &n_config, e));
    TRY(join_path(path, dir, "tokenizer.model", e));
    TRY(file_read(path->data, FILE_MAX_BYTES, ERR_MODEL, &model, &n, e));
    TRY(tokenizer_open_model(model, n, config, n_config, path->data, kind, out, e));
fail:
    mem_free(model);
    mem_free(config);
    return rc;
}

int tokenizer_open(const char *dir, enum tokenizer_kind kind, struct tokenizer **out, struct err *e)
{
    struct buf path = {0};
    char *json = NULL;
    size_t n;
    int rc;
    *out = NULL;
    TRY(join_path(&path, dir, "tokenizer.json", e));
    if (kind == TOKENIZER_MISTRAL && access(path.data, F_OK) == 0) {
        TRY(file_read(path.data, FILE_MAX_BYTES, ERR_MODEL, &json, &n, e));
        TRY(tokenizer_open_json(json, n, path.data, out, e));
        goto fail;
    }
    TRY(join_path(&path, dir, "tokenizer.model", e));
    if (access(path.data, F_OK) != 0) {
        rc = err_set(e, ERR_MODEL, "%s: no %stokenizer.model", dir,
                     kind == TOKENIZER_MISTRAL ? "tokenizer.json and no " : "");
        goto fail;
    }
    TRY(open_model_file(dir, &path, kind, out, e));
fail:
    mem_free(json);
    buf_free(&path);
    return rc;
}
