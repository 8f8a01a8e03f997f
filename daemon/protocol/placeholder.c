typedef int placeholder_protocol;
