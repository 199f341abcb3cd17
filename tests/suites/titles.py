"""File names that yt-dlp derives from titles: each can be requested in the spellings of several clients, and arrives byte for byte."""

import json
import re
import subprocess
import unicodedata
from itertools import product
from pathlib import Path
from urllib.parse import quote

import httpx

from instance import program
from upstream import Application
from verdict import Skipped, expect

# What titles contain: scripts, emoji, text directions, punctuation, escapes, and characters that change when they are folded.
PARTS = [
    "Big Buck Bunny 60fps 4K", "What if...?", "AC/DC", "C:\\Users\\Ana", "100% REAL", "50%/50%", "%F0%9F%8E%AC", "%25F0%259F%258E",
    "d%E9j%C3%A0 vu", "5%Off %zz %", "#1 #shorts @someone", "\"Quotes\" 'single' `ticks`", "“curly” „German“ «French»", "a*b**c",
    "<html> & </html>", "pipe | pipe || pipe", "semi;colon;;list", "comma, dot. dot..", "...Baby", ".gitignore", "—em dash– ‑hyphen",
    "~ ^ _ + = $", "{curly} [square] (round)", "¢ ½ ¼ ⅓ ⁄ €", "℅ Ana ℀ ⅍", "Ａ／Ｂ＼Ｃ", "．．／．．", "％2e％2e", "…‥·•", "naïve café Åse",
    "e\u0301 a\u0308 n\u0303", "ÀÉÎõü ß ẞ ﬁ ﬂ", "İstanbul ığdır", "Ελληνικά", "Привет, мир!", "Україна їжак", "日本語の題名", "【公式】歌ってみた",
    "中文標題：第一集", "한국어 제목", "ㅋㅋㅋ", "ไทย ภาษา", "हिन्दी शीर्षक", "বাংলা", "தமிழ்", "മലയാളം", "عنوان بالعربية", "פרק א׳", "فارسی می‌خواهم", "\u202eabc\u202c",
    "🎬", "👩‍👩‍👧‍👦", "🏳️‍🌈 🇩🇪", "👍🏽 ❤️‍🔥", "1️⃣ #️⃣ *️⃣", "𝕱𝖗𝖆𝖐𝖙𝖚𝖗 𝓼𝓬𝓻𝓲𝓹𝓽", "Z̸a̷l̴g̵o̶", "\u200bzero\u200dwidth\ufeff", "tab\tnew\nline", "a\x85b\x9bc", "soft\u00adhyphen",
    "№ ™ ® © ℠", "→ ⇒ ➜ ★ ♫", "12:34:56", "S01E02", "http://example.com/?a=b&c=d#e", "CON", "nul.txt", "a" * 120, "   ", "-", "_", "?",
]
JOINTS = [" ", " - ", ": ", "/", " | ", "? ", "%"]
# Runs in yt-dlp's own environment: names with default options, with --windows-filenames and with --restrict-filenames.
NAMING = """
import json, sys
from yt_dlp import YoutubeDL
titles, names = json.load(sys.stdin), set()
for mode in {}, {"windowsfilenames": True}, {"restrictfilenames": True}:
    with YoutubeDL({**mode, "quiet": True, "outtmpl": {"default": "%(title).150B [%(id)s].%(ext)s"}}) as ydl:
        for number, title in enumerate(titles):
            names.add(ydl.prepare_filename({"id": f"{number:011}", "title": title, "ext": "mp4"}))
print(json.dumps(sorted(names)))
"""
# What a browser leaves unescaped in a link, except the semicolon, which a path may contain only if the policy allows it.
SPARING = "-._~!$&'()*+,=:@[]|"
# What a program that decodes a name twice reads as a dot, a separator or a control character; refused anywhere.
DECODED_TWICE = re.compile("%(?:2e|2f|5c|[01][0-9a-f]|7f)", re.I)


def is_ambiguous(name):
    """Returns whether the name leads elsewhere after a second decoding, or becomes `..` after its characters are folded."""
    folded = re.split(r"[/\\]", unicodedata.normalize("NFKC", name))
    return bool(DECODED_TWICE.search(name)) or any(re.fullmatch(r"\s*\.+\s*", part) for part in folded)


def yt_dlp_names(titles):
    python = Path(program("yt-dlp")).read_text().splitlines()[0].removeprefix("#!")
    if not Path(python).exists():
        raise Skipped("yt-dlp is not a Python script")
    done = subprocess.run([python, "-c", NAMING], input=json.dumps(titles), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def spellings(name):
    """Returns the spellings of strict clients, of clients that escape little, and of clients with lower-case digits."""
    strict = quote(name, safe="")
    small = "".join(part if n == 0 else f"%{part[:2].lower()}{part[2:]}" for n, part in enumerate(strict.split("%")))
    return {strict, quote(name, safe=SPARING), small}


def ask(gateway, http2, paths):
    """Returns the status of each path, sent exactly as spelled here; httpx would re-encode it."""
    with httpx.Client(http2=http2, verify=str(gateway.authority)) as client:
        return [client.get(httpx.URL(gateway.url, raw_path=path.encode())).status_code for path in paths]


def titles(gateways, quick):
    gateway = gateways("intermediate")
    made = [first + joint + last for first, joint, last in product(PARTS, JOINTS, PARTS)][:: 211 if quick else 23]
    names = yt_dlp_names(made)
    paths = [(name, f"/files/{spelt}") for name in names for spelt in sorted(spellings(name))]
    allowed = [path for name, path in paths if not is_ambiguous(name)]
    doubtful = [path for name, path in paths if is_ambiguous(name)]
    for http2 in (False, True):
        Application.seen.clear()
        refused = [path for path, status in zip(allowed, ask(gateway, http2, allowed)) if status != 200]
        expect(not refused, f"{len(refused)} were refused: {refused[:5]}")
        expect(Application.seen == [f"GET {path}" for path in allowed], "a path was changed on the way")
        expect(set(ask(gateway, http2, doubtful)) <= {400}, "an ambiguous name was not refused")
    figure = f"{len(made)} titles, {len(names)} names, {len(allowed)} spellings over HTTP/1.1 and HTTP/2: all arrived unchanged"
    return f"{figure}; {len(doubtful)} ambiguous ones (an escaped dot, separator or control character, or a folded `..`) were refused"
