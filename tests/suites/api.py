"""The worker's API behind the gateway, checked against its own OpenAPI document by schemathesis."""

import json
import sys
import time
from pathlib import Path

import schemathesis
from instance import run
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi import checks
from verdict import expect
from whole import SOURCE, Whole

HERE = Path(__file__).parent
DOCUMENT = "/api/v2/openapi.json"
CONFORMANCE = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# First without removing the download that all requests use, then everything, with requests that build on earlier responses.
RUNS = {"coverage,fuzzing": ["--exclude-method", "DELETE"], "coverage,stateful": []}
# Duration of each run in seconds, and random cases for each operation.
QUICK, FULL = (12, 20), (300, 400)
NOBODYS = "c9c9ea0b-ef13-4d48-9de1-6c2e1bd3d0a5"


class Known:
    """Requests with known responses: each response must have its status and match its description."""

    def __init__(self, whole, schema):
        self.whole, self.schema, self.seen = whole, schema, set()

    def ask(self, method, path, status, /, headers=None, **parts):
        case = self.schema[path][method].Case(headers=headers, **parts)
        answer = case.call(headers={"X-API-Key": self.whole.key}, verify=str(self.whole.authority))
        expect(answer.status_code == status, f"{method} {path}: {answer.status_code} instead of {status}: {answer.content[:300]}")
        case.validate_response(answer, checks=CONFORMANCE)
        self.seen.add((method, path, status))
        return answer

    def post(self, path, status, body):
        return self.ask("POST", path, status, body=body, media_type="application/json")

    def download(self):
        """Returns a completed download."""
        task = self.post("/api/download", 200, {"url": f"http://{SOURCE}/clip", "quality": "240p", "subtitles": ["en"]}).json()
        deadline = time.monotonic() + 30
        while task["status"] != "completed":
            expect(time.monotonic() < deadline and task["status"] != "error", f"the download: {task}")
            time.sleep(0.1)
            task = next(t for t in self.ask("GET", "/api/downloads", 200).json() if t["id"] == task["id"])
        return task

    def file(self, path, parameters):
        tag = self.ask("GET", path, 200, path_parameters=parameters).headers["etag"][0]
        for status, headers in (
            (206, {"range": "bytes=0-9"}),
            (206, {"range": "bytes=0-9,20-29"}),
            (304, {"if-none-match": tag}),
            (412, {"if-match": '"other"'}),
            (416, {"range": "bytes=999999999-"}),
        ):
            self.ask("GET", path, status, path_parameters=parameters, headers=headers)
        self.ask("GET", path, 404, path_parameters={**parameters, next(iter(parameters)): NOBODYS})

    def all(self):
        task = self.download()
        this = {"id": task["id"]}
        self.file("/api/download/{id}/file", this)
        self.file("/api/stream/{filename}", {"filename": task["filename"]})
        self.file("/api/thumbnails/{id}", this)
        self.ask("GET", "/api/v2/downloads/{id}/subtitles", 200, path_parameters=this)
        self.file("/api/v2/downloads/{id}/subtitles/{file}", {**this, "file": "en.vtt"})
        self.ask("GET", "/api/v2/hls/{id}/index.m3u8", 200, path_parameters=this)
        self.file("/api/v2/hls/{id}/stream.mp4", this)
        self.ask("GET", "/api/v2/zip", 200, query={"ids": task["id"]})
        self.ask("GET", "/api/v2/zip", 404, query={"ids": f"{task['id']},{NOBODYS}"})
        self.ask("GET", "/api/v2/downloads", 200, query={"limit": 2, "status": "completed"})
        self.ask("GET", "/api/v2/downloads", 422, query={"limit": 0})
        self.ask("GET", "/api/search", 200, query={"q": "a"})
        self.ask("GET", "/api/search", 422, query={"q": "http://10.0.0.1/"})
        self.ask("GET", "/api/trending", 200)
        self.ask("GET", "/api/v2/events/socket", 400)
        self.ask("GET", "/api/v2/events/socket", 422, query={"all": 2})
        self.post("/api/info", 200, {"url": f"http://{SOURCE}/clip"})
        self.post("/api/info", 422, {"url": "http://10.0.0.1/"})
        self.post("/api/download", 422, {"url": "http://10.0.0.1/"})
        cancel, remove = "/api/downloads/{id}", "/api/downloads/{id}/remove"
        for method, path, status in (("DELETE", cancel, 409), ("DELETE", remove, 200), ("DELETE", remove, 404)):
            self.ask(method, path, status, path_parameters=this)


def fuzz(whole, document, task, quick):
    """Runs schemathesis, and returns the number of its requests, whose responses are all valid."""
    seconds, examples = QUICK if quick else FULL
    report, config = whole.folder / "report.json", whole.folder / "schemathesis.toml"
    config.write_text((HERE / "api.toml").read_text().format(**task))
    command = [Path(sys.executable).with_name("st"), "--config-file", config, "run", document, "--url", whole.url]
    command += ["--tls-verify", whole.authority, "--header", f"X-API-Key: {whole.key}", "--no-color"]
    command += ["--max-time", seconds, "--max-examples", examples, "--generation-database", "none"]
    command += ["--report", "json", "--report-json-path", report] + (["--seed", "1"] if quick else [])
    count = 0
    for phases, options in RUNS.items():
        run([*command, "--phases", phases, *options], cwd=whole.folder)
        count += json.loads(report.read_text())["test_cases"]["generated"]
    return count


def api(gateways, quick):
    whole = Whole(gateways.binary, gateways.folder / "api", gateways.media / "clip.mp4")
    try:
        document = whole.folder / "openapi.json"
        document.write_bytes(whole.get(DOCUMENT))
        described = json.loads(document.read_text())
        OpenAPIV31SpecValidator(described).validate()
        schema = schemathesis.openapi.from_dict(described)
        schema.config.update(base_url=whole.url)
        known = Known(whole, schema)
        known.all()
        tried = fuzz(whole, document, known.download(), quick)
        return f"{len(known.seen)} known responses and {tried} to requests that schemathesis generated, all as described"
    finally:
        whole.stop()
