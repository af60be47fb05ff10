"""The versions of the program and of its backends."""


def version_line() -> str:
    """One line."""
    return "qwen_audio 1.0.0"
