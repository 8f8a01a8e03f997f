/* MESSAGE_ID fields of the journal (sd_journal_print(3)): one an event that an administrator may
 * want to find, or a catalogue to explain. Random, and fixed once released.
 *
 * Fields that go with them: CHECKPOINT_ID names a checkpoint, ARENA an arena (once for each that is
 * meant), REVISION an update, DURATION_USEC how long it took, REASON why. */
#pragma once

/* The daemon serves. Fields: RECOVERY, ARENAS (how many), REVISION, DURATION_USEC (since the start
 * of the daemon). */
#define MESSAGE_ID_STARTED "5abfcdae00116cd94655369758c974f9"
/* The state came back from image, journal or descriptor store. Fields: RECOVERY, ARENAS (how many),
 * ADOPTED (of these), REVISION, DURATION_USEC. */
#define MESSAGE_ID_RECOVERED "d4b758b8d175fd6f207ab0463d5ada64"
/* An image is durable. Fields: CHECKPOINT_ID, REVISION, DURATION_USEC, PAUSE_USEC, ARENA (of the
 * arenas saved, at most 32). */
#define MESSAGE_ID_CHECKPOINT_COMPLETE "fc8bbfcf3c3d288c155cc57efeaa482b"
/* A checkpoint came to nothing, the state is untouched. Fields: CHECKPOINT_ID (none where it failed
 * before its cut), REVISION, REASON, ARENA as above. */
#define MESSAGE_ID_CHECKPOINT_FAILED "d31061fe78f3c88bd2dba379161e0e4b"
/* An image is not what was written. Fields: CHECKPOINT_ID, WHERE, REASON. */
#define MESSAGE_ID_IMAGE_DAMAGED "7f533fe31f9a20b7f6899dfdde20e3a6"
/* Updates are refused from now on, reads go on. Fields: REVISION (of the last that was applied),
 * REASON. */
#define MESSAGE_ID_UPDATES_REFUSED "3881e26570b74c1c762574b7388ac013"
/* Updates are accepted again. Fields: REVISION (of the last that was applied). */
#define MESSAGE_ID_UPDATES_ACCEPTED "107e326c1757896c7f99a0d0de662162"
