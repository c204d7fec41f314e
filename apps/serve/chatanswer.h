// SPDX-License-Identifier: MIT
// The work of /v1/chat/completions: media, conversation, one or several answers, as one JSON or as events.
#ifndef IV_APPS_SERVE_CHATANSWER_H
#define IV_APPS_SERVE_CHATANSWER_H

#include "modeljob.h"

int chatanswer_work(struct modeljob *m);
// {"prompt": text, "tokens": ids} of /apply-template; visual positions are -1.
int chatanswer_template(struct modeljob *m);

#endif
