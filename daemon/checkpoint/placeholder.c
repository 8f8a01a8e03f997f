typedef int placeholder_checkpoint;
