"""Programs that people use: what they fetch is byte-identical, seeking works, and refusals are visible."""

import hashlib
import os
import re
from pathlib import Path

from instance import program, run, run_any
from verdict import expect


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def same(path, original, what):
    expect(Path(path).exists() and digest(path) == digest(original), f"{what}: received a different file")
    Path(path).unlink()


def curl(gateway, media, folder):
    url, out = f"{gateway.url}/media/big", folder / "curl.out"
    common = [program("curl"), "-sS", "--fail", "--cacert", gateway.authority, "-o", out]
    for version in ("--http1.1", "--http2"):
        run([*common, version, "-H", f"X-API-Key: {gateway.key}", url])
        same(out, media / "big", version)
        # Resume a partial download.
        out.write_bytes((media / "big").read_bytes()[:12_345_678])
        run([*common, version, "-C", "-", gateway.link("/media/big")])
        same(out, media / "big", f"{version}, resumed")
    return "curl (1.1, 2, resumed)"


def asked_for_a_password(gateway, media, folder):
    """Programs that send a password only after a challenge: the key is the password."""
    url, out = f"{gateway.url}/media/clip.mp4", folder / "password.out"
    with_key = url.replace("https://", f"https://anybody:{gateway.key}@")
    for version in ("--http1.1", "--http2"):
        curl = [program("curl"), "-sS", "--fail", "--cacert", gateway.authority, version, "--anyauth", "-o", out]
        run([*curl, "-u", f"anybody:{gateway.key}", url])
        same(out, media / "clip.mp4", f"curl --anyauth {version}")
    run([program("wget"), "-q", "-O", out, f"--ca-certificate={gateway.authority}", with_key])
    same(out, media / "clip.mp4", "wget")
    trust = ["-ca_file", gateway.authority, "-tls_verify", "1"]
    fields = ["-v", "error", "-show_entries", "format=duration,size", "-of", "csv=p=0"]
    probed = run([program("ffprobe"), *trust, *fields, with_key]).stdout
    expect(probed == run(["ffprobe", *fields, media / "clip.mp4"]).stdout, f"ffprobe: {probed}")
    run([program("ffmpeg"), "-v", "error", "-y", *trust, "-i", with_key, "-c", "copy", folder / "password.mp4"])
    (folder / "password.mp4").unlink()
    return "curl --anyauth, wget, ffprobe and ffmpeg (the key as a password in the URL)"


def aria2(gateway, media, folder):
    for url, header in (
        (f"{gateway.url}/media/big", [f"--header=X-API-Key: {gateway.key}"]),
        (gateway.link("/media/big"), []),
    ):
        options = [
            "-x8",
            "-s8",
            "-k1M",
            "--file-allocation=none",
            f"--ca-certificate={gateway.authority}",
            "-d",
            folder,
        ]
        run([program("aria2c"), "-q", *options, *header, "-o", "aria2.out", url])
        same(folder / "aria2.out", media / "big", "aria2c")
    return "aria2 (8 connections, by key and by link)"


def ffmpeg(gateway, media, _folder):
    url = f"{gateway.url}/media/clip.mp4"
    trust = ["-ca_file", gateway.authority, "-tls_verify", "1"]
    for source, options in (
        (url, ["-headers", f"X-API-Key: {gateway.key}\r\n"]),
        (gateway.link("/media/clip.mp4"), []),
    ):
        fields = ["-v", "error", "-show_entries", "format=duration,size", "-of", "csv=p=0"]
        probed = run([program("ffprobe"), *trust, *options, *fields, source]).stdout
        expect(probed == run(["ffprobe", *fields, media / "clip.mp4"]).stdout, f"ffprobe: {probed}")
        for second in ("0", "17.3", "29"):
            frame = ["-frames:v", "1", "-f", "framemd5", "-"]
            seen = run([program("ffmpeg"), "-v", "error", *trust, *options, "-ss", second, "-i", source, *frame]).stdout
            right = run(["ffmpeg", "-v", "error", "-ss", second, "-i", media / "clip.mp4", *frame]).stdout
            expect(seen == right and re.search(r"[0-9a-f]{32}", seen), f"ffmpeg shows a different frame at {second} s")
    return "ffprobe and ffmpeg (3 seeks, by key and by link)"


def yt_dlp(gateway, media, folder):
    environment = {**os.environ, "SSL_CERT_FILE": str(gateway.authority)}
    out = folder / "yt-dlp.mp4"
    options = ["--quiet", "--no-warnings", "--no-config", "--no-cache-dir", "--compat-options", "no-certifi", "-o", out]
    run([program("yt-dlp"), *options, gateway.link("/media/clip.mp4")], env=environment)
    same(out, media / "clip.mp4", "yt-dlp")
    return "yt-dlp (by link)"


def clients(gateways, _quick):
    gateway = gateways("intermediate")
    with_key = run_any(
        [
            program("curl"),
            "-s",
            "--cacert",
            gateway.authority,
            "-o",
            os.devnull,
            "-w",
            "%{http_code}",
            f"{gateway.url}/media/big",
        ]
    )
    expect(with_key == "401", f"without a credential: {with_key}")
    figures = [client(gateway, gateway.media, gateway.folder) for client in (curl, asked_for_a_password, aria2, ffmpeg, yt_dlp)]
    return f"byte-identical: {', '.join(figures)}"
