"""Refuses requests of common programs while they are still sending: each must see the status and the body that the gateway sent."""

import json
import shutil
from collections import Counter
from itertools import groupby, product

import httpx

from refused_clients import CLIENTS
from refused_requests import BODIES, CASES, Request
from verdict import expect

ROUNDS, QUICK_ROUNDS = 20, 2


def fault(case, status, text, error):
    """Returns what is wrong with one response, as its client saw it, or an empty string."""
    if status != case.status:
        return f"{status} {error.strip()[-300:]}"
    if text is None:
        return ""
    try:
        body = json.loads(text)
    except ValueError:
        return f"a body of {len(text)} bytes: {text[:80]!r} {error}"
    return "" if (body["code"], body["status"]) == (case.code, case.status) else text


def spend_rates(gateway):
    """Uses up the rate-limited route, which allows one request per address."""
    for address in ("127.0.0.1", "[::1]"):
        httpx.get(f"https://{address}:{gateway.port}/limited", headers={"Host": "localhost"}, verify=False)


def requests_of(client, gateway, quick):
    """Returns the requests of one client, with those that it sends alike one after the other."""
    bodies = [body for body in BODIES if body.name in client.bodies and not (quick and body.name == "8 MB")]
    cases = [case for case in CASES if case.name not in client.unseen]
    return [Request(case, body, gateway.url + case.path) for body, case in product(bodies, cases)]


def show(head, cells):
    print(f"  {head:38}" + "".join(f"{cell:>17}" for cell in cells), flush=True)


def show_client(keys, seen, times):
    """Prints how many responses one client saw as they were sent."""
    for (client, body), _ in groupby(keys, lambda key: key[:2]):
        cells = [(client, body, case.name) for case in CASES]
        show(f"{client}, {body}", [f"{seen[cell]}/{times}" if cell in seen else "-" for cell in cells])


def check_lengths(gateway, whole):
    """Compares the lengths of bodies with those that the gateway logged, by request ID."""
    logged = {}
    for line in (gateway.folder / "data" / "access.log").read_text().splitlines():
        entry = json.loads(line)
        logged[entry.get("request_id")] = entry.get("bytes_out")
    short = [id_ for id_, length in whole.items() if logged.get(id_, length) != length]
    expect(not short, f"{len(short)} bodies are not as long as the gateway sent them")


def refusals(gateways, quick, rounds=0, who=""):
    gateway, times = gateways("intermediate"), rounds or (QUICK_ROUNDS if quick else ROUNDS)
    spend_rates(gateway)
    seen, asked, faults, whole = {}, Counter(), [], {}
    show("", [case.name for case in CASES])
    wanted = {name: client for name, client in CLIENTS.items() if who in name}
    here = {name: client for name, client in wanted.items() if not client.needs or shutil.which(client.needs)}
    for name, client in here.items():
        requests = requests_of(client, gateway, quick)
        keys = [(name, request.body.name, request.case.name) for request in requests]
        seen |= dict.fromkeys(keys, 0)
        for number, status, text, error in client.ask(gateway, requests, times):
            case, key = requests[number].case, keys[number]
            asked[key] += 1
            if what := fault(case, status, text, error):
                faults.append(f"{', '.join(key)}, at {asked[key]}: {what}")
                continue
            seen[key] += 1
            if text:
                whole[json.loads(text)["instance"]] = len(text.encode())
        show_client(keys, seen, times)
    missed = len(seen) * times - sum(seen.values())
    expect(not missed, f"{missed} refusals were not seen as sent:\n  " + "\n  ".join(faults[:40]))
    check_lengths(gateway, whole)
    absent = "".join(f"; not installed: {name}" for name in wanted if name not in here)
    return f"{sum(seen.values())} of {len(seen) * times} refusals seen as sent by {', '.join(here)}{absent}"
