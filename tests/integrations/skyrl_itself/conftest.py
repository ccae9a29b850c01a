"""SkyRL 0.3 itself, which pydantic would not let be imported before Python 3.12."""

import sys
import typing

import typing_extensions

if sys.version_info < (3, 12):
    typing.TypedDict = typing_extensions.TypedDict  # of which SkyRL makes its types
