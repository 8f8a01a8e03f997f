"""RFC 7396, for the models that tests hold the daemon against."""


def merged(target, patch):
    """The target with the patch merged into it; None: there was none."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
