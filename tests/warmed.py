"""Read by the server of ``forked``: what every process of the program would import or read again.

Nothing here starts a thread, for the server forks.
"""

import atexit
import gc

import matplotlib.backends.backend_svg  # noqa: F401
import pytest  # noqa: F401  # imported by ``forked``
from hydra.core.plugins import Plugins
from PIL import Image

from dermprompt.generator.text_encoder import tokenizer
from dermprompt.report.page import templates

Plugins.instance()
Image.init()
tokenizer()
for name in ("page.html", "page.md"):
    templates().get_template(name)
# The collector of a forked process would otherwise touch, and so copy, all that it has in common with the server.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)
