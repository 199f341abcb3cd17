"""TLS profiles, as checked by sslyze, testssl.sh and sslscan. Accepted findings are listed here with their reasons."""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from instance import program, run_any
from verdict import expect

# The local CA's certificate is valid for a year. The modern profile requires 90 days, as public authorities use.
CERTIFICATE_FINDINGS = {"intermediate": set(), "modern": {"maximum_certificate_lifespan"}}
TESTSSL_FINDINGS = {
    "cert_trust": "a local CA",
    "cert_chain_of_trust": "a local CA",
    "cert_revocation": "a local CA has no revocation list that devices could fetch",
    "cipher_order": "left to the client, as in Mozilla's profiles: every suite is secure, and phones without AES "
    "in hardware are faster with ChaCha20",
}


def sslyze(gateways, _quick):
    figures = []
    for profile in ("intermediate", "modern"):
        gateway = gateways(profile)
        command = [Path(sys.executable).with_name("sslyze"), "--mozilla_config", profile, f"localhost:{gateway.port}"]
        output = run_any([*command, "--certinfo_ca_file", gateway.authority])
        report = output.split("COMPLIANCE AGAINST TLS CONFIGURATION")[-1]
        found = set(re.findall(r"^ +\* (\w+):", report, re.M))
        expect("localhost:" in report and found <= CERTIFICATE_FINDINGS[profile], f"{profile}: {report.strip()}")
        figures.append(f"{profile}: {'compliant' if not found else 'compliant except for ' + ', '.join(sorted(found))}")
    return "; ".join(figures)


def testssl(gateways, quick):
    figures = []
    for profile in ("intermediate",) if quick else ("intermediate", "modern"):
        gateway = gateways(profile)
        report = gateway.folder / "testssl.json"
        command = [program("testssl"), "--quiet", "--color", "0", "--warnings", "off", "--jsonfile", report]
        run_any([*command, "--add-ca", gateway.authority, f"localhost:{gateway.port}"])
        findings = json.loads(report.read_text())
        bad = {f["id"].split(" ")[0]: f for f in findings if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL")}
        unexpected = [
            f"{f['severity']} {name}: {f['finding']}" for name, f in bad.items() if name not in TESTSSL_FINDINGS
        ]
        expect(len(findings) > 50 and not unexpected, f"{profile}: {unexpected or 'it checked nothing'}")
        figures.append(f"{profile}: {len(findings)} findings, MEDIUM or worse: {', '.join(sorted(bad)) or 'none'}")
    return "; ".join(figures)


def sslscan(gateways, _quick):
    figures = []
    for profile, versions in (("intermediate", {"1.2", "1.3"}), ("modern", {"1.3"})):
        output = run_any([program("sslscan"), "--xml=-", f"localhost:{gateways(profile).port}"])
        test = ElementTree.fromstring(output).find("ssltest")
        spoken = {p.get("version") for p in test.iter("protocol") if p.get("enabled") == "1"}
        weak = [c.get("cipher") for c in test.iter("cipher") if int(c.get("bits")) < 128 or "CBC" in c.get("cipher")]
        bleeds = [h.get("sslversion") for h in test.iter("heartbleed") if h.get("vulnerable") != "0"]
        expect(spoken == versions, f"{profile} speaks {spoken}")
        expect(not weak and not bleeds, f"{profile}: {weak} {bleeds}")
        figures.append(
            f"{profile}: TLS {' and '.join(sorted(spoken))}, {len(list(test.iter('cipher')))} suites, all AEAD"
        )
    return "; ".join(figures)
