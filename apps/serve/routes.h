// SPDX-License-Identifier: MIT
// The paths of the server. Each handler fills in the reply; it may take long (it runs on the connection's thread).
#ifndef IV_APPS_SERVE_ROUTES_H
#define IV_APPS_SERVE_ROUTES_H

#include "httpio.h"

struct route {
    const char *method;
    const char *path; // "/v1/videos/*": any one component in place of the star
    bool open;        // needs no key
    bool model;       // 503 while the model is being loaded
    void (*handle)(struct request *q, struct reply *p);
};

// NULL: *r says 404 or 405, and *allow the methods of that path. rest: what the star stands for.
const struct route *route_find(const char *method, const char *path, const char **rest,
                               char allow[64], struct refusal *r);

// Handlers, by file.
void health_handle(struct request *q, struct reply *p);
void models_handle(struct request *q, struct reply *p);
void model_handle(struct request *q, struct reply *p);
void metrics_handle(struct request *q, struct reply *p);
void openapi_handle(struct request *q, struct reply *p);
void page_handle(struct request *q, struct reply *p);
void props_handle(struct request *q, struct reply *p);
void chat_handle(struct request *q, struct reply *p);
void template_handle(struct request *q, struct reply *p);
void tokenize_handle(struct request *q, struct reply *p);
void detokenize_handle(struct request *q, struct reply *p);
void embeddings_handle(struct request *q, struct reply *p);
void video_add_handle(struct request *q, struct reply *p);
void video_list_handle(struct request *q, struct reply *p);
void video_get_handle(struct request *q, struct reply *p);
void video_remove_handle(struct request *q, struct reply *p);
void video_frames_handle(struct request *q, struct reply *p);

#endif
