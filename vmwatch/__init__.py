"""vmwatch watches the voicemail boxes of your phone lines and tells you who called, once, wherever you are."""

__version__ = "0.1.0"
