"""A search that tries to create links that lead out of its folder. Reports which it could create."""

import os

from stand_in import HOME, answer_search, is_allowed

links = {"link": "/etc/passwd", "up": "../.."}
answer_search([name for name, target in links.items() if is_allowed(lambda: os.symlink(target, HOME + "/" + name))])
