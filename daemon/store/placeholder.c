typedef int placeholder_store;
