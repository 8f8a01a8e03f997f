/* VerifyCheckpoint. The call waits (METHOD_WAITING) while a process reads the image, and is
 * finished from there; a caller that goes away gives the check up. What can go wrong:
 * see checkpoint/verify.h. */

#include "methods/method.h"

typedef struct VerifyWait {
    VerifyWaiter waiter;
    MethodCall call;
    Call text;
    Checkpoint *checkpoint; /* pinned by the verification; gone when it is damaged */
    char id[HOLDFAST_IMAGE_ID_MAX + 1];
    bool ended;
} VerifyWait;

static void verify_release(void *state)
{
    VerifyWait *verify = state;

    if (!verify->ended)
        verify_forget(verify->call.methods->options.verify, &verify->waiter);
    free(verify);
}

static void verify_notify(VerifyWaiter *waiter, VerifyEvent event, uint64_t pages_done,
                          uint64_t pages_total, const char *where, const char *why)
{
    VerifyWait *verify = (VerifyWait *)waiter;
    MethodCall *call = &verify->call;
    Checkpoint shown;

    switch (event) {
    case VERIFY_PROGRESS:
        if (!verify->text.more || !call->ops->has_room(call->caller))
            return;
        shown = *verify->checkpoint;
        shown.pages_done = pages_done;
        shown.summary.pages_total = pages_total;
        method_reply_checkpoint(call, &shown, true);
        call->ops->wrote(call->caller);
        return;
    case VERIFY_GOOD:
        method_reply_checkpoint(call, verify->checkpoint, false);
        break;
    case VERIFY_DAMAGED:
        error_image_damaged(call, verify->id, where, why);
        break;
    case VERIFY_FAILED:
        error_checkpoint_failed(call, verify->id, why);
        break;
    }
    verify->ended = true;
    call->ops->finish(call->caller);
}

MethodResult method_verify_checkpoint(MethodCall *call)
{
    const IdParameters *parameters = call->parameters;
    Checkpoint *checkpoint = find_checkpoint(call);
    VerifyWait *verify;
    int r;

    if (!checkpoint)
        return error_no_checkpoint(call, parameters->id);
    verify = calloc(1, sizeof(*verify));
    if (!verify)
        return error_limit(call, "buffers", 0);
    verify->waiter.notify = verify_notify;
    method_keep(call, &verify->call, &verify->text);
    verify->checkpoint = checkpoint;
    memcpy(verify->id, checkpoint->spec.id, sizeof(verify->id));
    r = verify_start(call->methods->options.verify, checkpoint, &verify->waiter);
    if (r != 0) {
        free(verify);
        return r == VERIFY_BUSY
                   ? error_limit(call, "checkpoints", 1)
                   : error_checkpoint_failed(call, checkpoint->spec.id, strerrordesc_np(-r));
    }
    call->ops->set_state(call->caller, verify, verify_release);
    return METHOD_WAITING;
}
