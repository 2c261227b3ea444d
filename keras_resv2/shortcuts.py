"""The shortcuts of He et al. 2016, Fig. 2, and `register_shortcut` for custom ones."""

from keras_resv2.models.shortcuts import (
    SHORTCUTS,
    ConstantScaling,
    Conv1x1,
    DropoutShortcut,
    ExclusiveGating,
    Identity,
    NoShortcut,
    Shortcut,
    ShortcutOnlyGating,
    get_shortcut,
    register_shortcut,
)

__all__ = [
    "SHORTCUTS",
    "ConstantScaling",
    "Conv1x1",
    "DropoutShortcut",
    "ExclusiveGating",
    "Identity",
    "NoShortcut",
    "Shortcut",
    "ShortcutOnlyGating",
    "get_shortcut",
    "register_shortcut",
]
