"""A search that reports the child's rights: its capabilities, whether it can gain one, and whether its system calls are filtered."""

from stand_in import answer_search

wanted = ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp")
with open("/proc/self/status") as lines:
    status = dict(line.split(":", 1) for line in lines)
answer_search([int(status[name], 16) for name in wanted])
