"""cnnext.functional under torch's path."""

from ..functional import *  # noqa: F403
from ..functional import __all__  # noqa: F401
