typedef int placeholder_base;
