//! Does what a newcomer does: `scripts/run`, its last lines, and every command block of the pages below, in a copy of the checkout and in a
//! network namespace without internet access.
//!
//! A block that cannot run here is preceded by a comment that says why, `<!-- not run: … -->`, and is listed below.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// The pages for operators that have command blocks, in the order in which they are run: users come before what belongs to them.
const OPERATIONS: [&str; 8] = [
    "operations.md",
    "systemd.md",
    "users-and-keys.md",
    "links.md",
    "bans.md",
    "certificates.md",
    "monitoring.md",
    "media-server.md",
];

/// The beginnings of the blocks that are not run, each with the reason that the document gives.
const NOT_RUN: [(&str, &str); 6] = [
    ("install -m 0755 target/dist/sallyport", "needs root and systemd"),
    ("python3 -m venv /opt/yt-dlp", "needs root and systemd"),
    ("install -d -o sallyport -g sallyport /etc/sallyport", "needs root and systemd"),
    ("install -d -o sallyport-worker", "needs root and systemd"),
    ("groupadd --force media", "needs root and accounts of this machine"),
    ("sallyport trust  ", "changes what this machine trusts"),
];

/// Replaces the part that builds and installs, which `scripts/test` exercises for real.
const SETUP: &str = r#"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
TOOLS=$ROOT/.tools/bin
say() { :; }
fail() { echo "$*" >&2; exit 1; }
setup() { PATH=$TOOLS:$PATH; }
target_folder() { echo "$ROOT/target"; }
keep_telling() { shift; "$@"; }
"#;

/// Starts everything, and defines functions and the `PATH` for what follows.
const BEGIN: &str = r#"
set -euo pipefail
ip link set lo up
start() {
  rm -f run.out
  scripts/run >run.out 2>>run.err &
  run=$!
}
stop() {
  kill "$run" 2>/dev/null || true
  wait "$run" || true
}
start
end() {
  status=$?
  stop
  [ -z "${application-}" ] || kill "$application"
  [ "$status" = 0 ] || tail -n 40 run.out run.err
}
trap end EXIT
PATH=$PWD/target/quick:$PATH
until_there() { # until_there SECONDS COMMAND…
  local left=$(($1 * 5))
  shift
  until "$@"; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || { echo "timed out waiting for: $*"; exit 1; }
    sleep 0.2
  done
}
"#;

struct Block {
    text: String,
    not_run: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Returns every fenced block in this language, without its indentation.
fn blocks(document: &str, language: &str) -> Vec<Block> {
    let fence = format!("```{language}");
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.trim() == fence {
            let indent = line.len() - line.trim_start().len();
            let inside = lines.by_ref().take_while(|line| line.trim() != "```");
            let text = inside.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n").collect();
            let not_run = before.strip_prefix("<!-- not run: ").map(|why| why.trim_end_matches(" -->").to_owned());
            blocks.push(Block { text, not_run });
        }
        if !line.trim().is_empty() {
            before = line.trim();
        }
    }
    blocks
}

/// A copy of the checkout, without build output and installed programs.
struct Checkout {
    dir: TempDir,
    /// The folder of yt-dlp; None if there is no yt-dlp.
    tools: Option<PathBuf>,
}

impl Checkout {
    fn new(tools: Option<PathBuf>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let to = |name: &str| dir.path().join(name);
        for folder in ["scripts", "policies", "target/quick", ".tools", "bin"] {
            fs::create_dir_all(to(folder)).unwrap();
        }
        for file in ["config.toml", "policies/worker.toml", "scripts/run", "scripts/call", "scripts/sample.py"] {
            fs::copy(root().join(file), to(file)).unwrap();
        }
        fs::write(to("scripts/setup.sh"), SETUP).unwrap();
        fs::write(to("bin/cargo"), "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(to("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink(env!("CARGO_BIN_EXE_sallyport"), to("target/quick/sallyport")).unwrap();
        if let Some(tools) = &tools {
            symlink(tools, to(".tools/bin")).unwrap();
        }
        Self { dir, tools }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a script in a network namespace, where no other program uses our ports; returns its output.
    fn run(&self, script: &str) -> String {
        fs::write(self.path("script.sh"), format!("{BEGIN}\n{script}")).unwrap();
        let root = rustix::process::geteuid().is_root();
        let path = std::env::var_os("PATH").unwrap();
        let known =
            std::env::split_paths(&path).filter(|folder| self.tools.is_some() || !folder.join("yt-dlp").exists());
        let folders = [self.path("bin")].into_iter().chain(known).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
        let output = Command::new("unshare")
            .args(if root { &["-n"][..] } else { &["-rn"] })
            .args(["bash", "script.sh"])
            .current_dir(self.dir.path())
            .env("PATH", std::env::join_paths(folders).unwrap())
            .env("CARGO_TARGET_DIR", self.path("target"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }
}

fn tools() -> PathBuf {
    let own = root().join(".tools/bin");
    let named = std::env::var_os("TEST_YT_DLP").map(PathBuf::from);
    named.and_then(|program| program.parent().map(Path::to_owned)).unwrap_or(own)
}

/// Returns a script that runs all blocks of a document in order, as a reader would in one terminal.
fn reading(name: &str) -> String {
    reading_part(name, &document(name))
}

/// Does the same for a part of a document.
fn reading_part(name: &str, part: &str) -> String {
    let mut script = format!("echo '== {name}'\nprepare\n");
    for (i, block) in blocks(part, "sh").iter().enumerate() {
        if block.not_run.is_some() {
            continue;
        }
        if block.text.trim() == "scripts/run" {
            script += START_AGAIN;
            continue;
        }
        let text = &block.text;
        script.extend([
            &*format!("echo '-- block {i}'\ncat >block.sh <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"),
            RUN_BLOCK,
        ]);
    }
    script
}

/// Stops the server, whose terminal is another one, and starts it again, as the text before such a block says.
const START_AGAIN: &str = "stop\nstart\nuntil_there 60 grep -qs 'Next: docs/quickstart.md' run.out\n";

/// Runs a block in the same shell as the blocks before it.
const RUN_BLOCK: &str = "sed -i -f edits.sed block.sh\n. ./block.sh\n";

/// Replaces placeholders of the documents, and ends commands that would run forever.
const PREPARE: &str = r#"
id_of() { python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'; }
prepare() {
  ID=$(scripts/call /api/downloads | awk '/ completed / { print $1; exit }')
  KEY_ID=$(sallyport key create --json | id_of)
  LINK_ID=$(sallyport link create --json "/api/download/$ID/file" | id_of)
  KEY=$(python3 -c 'import json; print(json.load(open("data/first-run.json"))["api_key"])')
  cat >edits.sed <<END_OF_EDITS
s#/ID/#/$ID/#g
s#ids=ID#ids=$ID#
s#KEY-ID#$KEY_ID#
s#LINK-ID#$LINK_ID#
s#sp_…#$KEY#
s#^curl --cacert#curl --fail-with-body --cacert#
s#^scripts/call link#until_there 60 eval 'scripts/call link >/dev/null'; scripts/call link#
s#^call -N \(.*\)\$#call -N --max-time 2 \1 || [ \$? = 28 ]#
END_OF_EDITS
}
"#;

/// Starts the application that the quickstart protects, and makes the changes of files that its text asks for.
const SERVE_APPLICATION: &str = "
mkdir -p application/api
echo 'an item of the application' >application/api/items
python3 -m http.server --bind 127.0.0.1 --directory application 8081 >/dev/null 2>&1 &
application=$!
mv myapp.toml policies/
mv edited.toml config.toml
";

/// Returns the configuration with what the quickstart's section about an application adds.
fn with_application(config: &str, section: &str) -> String {
    let app = &blocks(section, "toml")[1].text;
    let (_, names) = section.split_once("set `names = ").unwrap();
    let (names, _) = names.split_once('`').unwrap();
    let edited = config.replacen("\nnames = []", &format!("\nnames = {names}"), 1);
    let edited = edited.replacen("\n[[app]]", &format!("\n{app}\n[[app]]"), 1);
    assert!(edited.contains(names) && edited.contains(app));
    edited
}

#[test]
fn every_command_block_runs_in_a_checkout_without_internet() {
    let checkout = Checkout::new(Some(tools()));
    let files = || ["config.toml", "policies/worker.toml"].map(|file| fs::read_to_string(checkout.path(file)).unwrap());
    let mut expected = files();
    let quickstart = document("quickstart.md");
    let (beginning, application) = quickstart.split_at(quickstart.find("\n## Protect an application").unwrap());
    expected[0] = with_application(&expected[0], application);
    fs::write(checkout.path("edited.toml"), &expected[0]).unwrap();
    fs::write(checkout.path("myapp.toml"), &blocks(application, "toml")[0].text).unwrap();
    let script = [
        "until_there 60 grep -q 'Next: docs/quickstart.md' run.out\n",
        "cat run.out\n",
        // Nothing is finished, and no media site is reachable.
        "scripts/call /api/download '{\"url\": \"https://media.example.com/a.mp4\"}'\n",
        "until_there 60 eval '{ scripts/call link || true; } | grep \"nothing is finished yet: waiting to retry (2 of 5) at 2\"'\n",
        "scripts/call link || true\n",
        "scripts/call sample\nuntil_there 60 eval 'scripts/call link >/dev/null'\n",
        "curl -sS --fail --cacert certs/ca.pem \"$(scripts/call link)\" | cmp - <(curl -sS \"$(cat data/sample/url)\")\n",
        "curl -sS --cacert certs/ca.pem https://localhost:8443/ | grep -q 'private server'\n",
        "curl -sS --cacert certs/ca.pem https://localhost:8443/nowhere >/dev/null\n",
        // A command in the checkout acts on the server that runs from it.
        "sallyport user add eve && sallyport user list | grep -q eve\n",
        PREPARE,
        &reading_part("quickstart.md", beginning),
        SERVE_APPLICATION,
        &reading_part("quickstart.md, an application", application),
        &reading("worker-api.md"),
        "sallyport user remove ana\n",
        &OPERATIONS.map(reading).concat(),
        "echo 'all blocks have run'\n",
    ]
    .concat();
    let said = checkout.run(&script);
    assert!(said.contains("all blocks have run"), "{said}");
    let printed = fs::read_to_string(checkout.path("run.out")).unwrap();
    assert!(printed.contains("with the key sp_") && !printed.contains("password"), "{printed}");
    assert!(said.contains("an item of the application"), "{said}");
    assert_eq!(files(), expected, "the program and the scripts change no tracked file");
}

#[test]
fn missing_programs_for_downloads_are_reported_once_with_a_fix() {
    let checkout = Checkout::new(None);
    fs::create_dir_all(checkout.path(".tools/bin")).unwrap();
    let script = "
until_there 60 grep -q 'Nothing can be downloaded' run.out
grep -q 'worker.yt_dlp: yt-dlp was not found; install it' run.out
! grep -q 'scripts/call sample' run.out
for _ in 1 2; do
  scripts/call sample && exit 1
  sleep 4 # long enough for a second message, which must not come
done
[ \"$(grep -c 'nothing can be downloaded' run.err)\" = 1 ]
echo 'said once'
";
    assert!(checkout.run(script).contains("said once"));
}

#[test]
fn only_these_blocks_are_not_run() {
    let all: Vec<_> = ["quickstart.md"].iter().chain(&OPERATIONS).map(|name| blocks(&document(name), "sh")).collect();
    assert!(all.iter().all(|blocks| !blocks.is_empty()) && all.iter().flatten().count() > 20);
    let not_run: Vec<_> = all.iter().flatten().filter(|block| block.not_run.is_some()).collect();
    for block in &not_run {
        let why = block.not_run.as_deref().unwrap();
        println!("not run ({why}): {}", block.text.lines().next().unwrap());
        assert!(
            NOT_RUN.iter().any(|(start, reason)| block.text.starts_with(start) && why.starts_with(reason)),
            "{}",
            block.text
        );
    }
    assert_eq!(not_run.len(), NOT_RUN.len());
}

#[test]
fn every_block_of_the_worker_api_is_run() {
    let all = blocks(&document("worker-api.md"), "sh");
    assert!(all.len() > 5 && all.iter().all(|block| block.not_run.is_none()));
}
