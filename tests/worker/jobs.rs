//! The folder of a job: whatever a malicious child leaves there is neither accepted nor kept.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    origin::Origin,
    process::{Setup, Worker, eventually, python_yt_dlp},
};

/// Removes the capabilities by which root ignores file permissions, because the accounts that normally run the worker have none.
const WITHOUT_OVERRIDE: &[&str] =
    &["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"];

fn worker(program: &str, extra: &str) -> (Worker, Origin, TempDir) {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), program);
    let wrapper = if rustix::process::geteuid().is_root() { WITHOUT_OVERRIDE } else { &[] };
    let extra = format!("{readable}\n{extra}").leak();
    (Worker::with(&origin, &Setup { yt_dlp, extra, wrapper }), origin, dir)
}

/// Runs the program as a download and returns the task once `what` accepts it.
fn download(worker: &Worker, origin: &Origin, what: impl Fn(&Value) -> bool) -> Value {
    let id = worker.download("ana", &origin.url("sample.mp4"));
    worker.wait_for(&id, what)
}

fn ended(task: &Value) -> bool {
    task["status"] == "error"
}

fn nothing_is_left(worker: &Worker) {
    let jobs = worker.dir.path().join("data/media/.jobs");
    eventually("an empty folder", || fs::read_dir(&jobs).unwrap().next().is_none().then_some(()));
}

const TELL: &str = "import json, os, sys, time\n\
    def tell(what):\n    print('B ' + json.dumps({'title': json.dumps(what)}), flush=True)\n\
    home = os.environ['HOME']\n\
    job = home[:home.index('.jobs/') + 6 + 36]\n";

#[test]
fn a_child_cannot_change_accepted_files_or_permissions() {
    let program = format!(
        "{TELL}
done = []
def attempt(name, what):
    try:
        what()
        done.append(name)
    except OSError:
        pass
data = job[:job.index('/media/.jobs')]
attempt('plant', lambda: open(job + '/ready/media.mp4', 'wb').write(b'\\0\\0\\0\\x20ftypisom'))
attempt('make', lambda: os.mkdir(job + '/other'))
attempt('list', lambda: os.listdir(job + '/ready'))
attempt('move', lambda: os.rename(job + '/ready', home + '/mine'))
for path in (job, job + '/ready', data, data + '/media', data + '/worker.db', data + '/secrets/worker.key'):
    attempt('chmod ' + path, lambda: os.chmod(path, 0o755))
    attempt('chown ' + path, lambda: os.chown(path, os.getuid(), os.getgid()))
    attempt('utime ' + path, lambda: os.utime(path, (1, 1)))
    attempt('xattr ' + path, lambda: os.setxattr(path, 'user.x', b'x'))
    attempt('names', lambda: os.listdir(path))
tell(done)
sys.exit('ERROR: enough')
"
    );
    let (worker, origin, _dir) = worker(&program, "");
    let task = download(&worker, &origin, ended);
    assert_eq!(task["title"], "[]", "{}", worker.log());
    nothing_is_left(&worker);
}

#[test]
fn a_result_that_has_a_second_name_is_refused() {
    let program = format!(
        "{TELL}
open(home + '/out/media.mp4', 'wb').write(b'\\0\\0\\0\\x20ftypisom' + bytes(1000))
os.link(home + '/out/media.mp4', home + '/out/kept')
print('A ' + json.dumps({{'filepath': home + '/out/media.mp4'}}), flush=True)
"
    );
    let (worker, origin, _dir) = worker(&program, "");
    let task = download(&worker, &origin, ended);
    assert_eq!(task["error_message"], "the reported file is not in the job's output folder");
    nothing_is_left(&worker);
}

/// Folders nested thousands deep, beyond the longest usable path, and folders that nobody may open.
const MAZE: &str = "
for name in ('a', 'b'):
    os.chdir(home)
    for step in range(3000):
        os.mkdir('maze-' + name)
        open('file', 'w').close()
        os.chdir('maze-' + name)
    os.mkdir('closed', 0o700)
    open('closed/file', 'w').close()
os.chdir(home)
os.mkdir('sealed', 0)
os.mkdir('blind', 0o300)
open('blind/file', 'w').close()
os.mkdir('blind/blind', 0o100)
os.mkdir('shut', 0o500)
";

#[test]
fn a_job_cannot_leave_anything_that_cannot_be_removed() {
    let (mut worker, origin, _dir) = worker(&format!("{TELL}{MAZE}time.sleep(1000)\n"), "");
    let task = download(&worker, &origin, ended);
    assert_eq!(task["error_message"], "the download exceeds the disk space that a download may use");
    nothing_is_left(&worker);
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{}/remove", task["id"].as_str().unwrap())).status, 200);
    assert!(worker.terminate());
    // A startup also removes what was left there.
    let folder = worker.job("00000000-0000-4000-8000-000000000000");
    fs::create_dir(&folder).unwrap();
    let left = Command::new("python3").args(["-c", &format!("{TELL}{MAZE}")]).env("HOME", &folder).status();
    assert!(left.unwrap().success());
    worker.start_again();
    nothing_is_left(&worker);
}

#[test]
fn the_errors_of_a_child_cannot_fill_the_log() {
    let program = format!(
        "{TELL}
for number in range(2000):
    print('ERROR: ' + 'x' * 60000, file=sys.stderr, flush=True)
sys.exit(1)
"
    );
    let (worker, origin, _dir) = worker(&program, "");
    download(&worker, &origin, ended);
    let log = worker.log();
    assert!(log.contains("ERROR: xxx") && log.len() < 20_000, "{} bytes", log.len());
}

#[test]
fn only_the_first_description_of_a_source_counts() {
    let program = format!("{TELL}\nfor number in range(500):\n    tell(number)\nsys.exit('ERROR: enough')\n");
    let (worker, origin, _dir) = worker(&program, "");
    assert_eq!(download(&worker, &origin, ended)["title"], "0");
}

/// Runs a child that writes many files, each within the limit of one file but together more than a download may use.
fn hoards(how: &str) {
    let program = format!(
        "{TELL}
tell('begins')
for number in range(60):
    {how}
    print('P {{}}', flush=True)
    time.sleep(0.2)
print('A ' + json.dumps({{'filepath': home + '/out/media.mp4'}}), flush=True)
"
    );
    let (worker, origin, _dir) = worker(&program, "max_filesize = \"1MiB\"");
    let task = download(&worker, &origin, ended);
    assert_eq!(task["error_message"], "the download exceeds the disk space that a download may use", "{how}");
    nothing_is_left(&worker);
}

#[test]
fn a_job_that_writes_many_files_is_ended_like_one_that_writes_a_large_file() {
    hoards("open(home + '/tmp/%d' % number, 'wb').write(b'x' * 500000)");
}

#[test]
fn a_job_cannot_hide_what_it_writes() {
    hoards("os.makedirs(home + '/a' * 40, exist_ok=True)");
    hoards("os.mkdir(home + '/%d' % number, 0o300)");
    hoards("[open(home + '/%d-%d' % (number, n), 'w').close() for n in range(500)]");
}

/// A child that should keep almost nothing may use almost no disk space.
#[test]
fn a_child_that_reads_a_page_or_fetches_subtitles_cannot_fill_the_disk() {
    let program = "import os, sys, time
home = os.environ['HOME']
def fill():
    for number in range(20):
        open(home + '/%d' % number, 'wb').write(b'x' * (60 << 20))
        time.sleep(0.5)
if '--skip-download' in sys.argv:
    fill()
    open(home + '/media.en.vtt', 'w').write('WEBVTT\\n\\n00:01.000 --> 00:02.000\\nHello\\n')
elif '-J' in sys.argv:
    fill()
    print('{\"title\": \"A\"}')
else:
    open(home + '/out/media.mp4', 'wb').write(b'\\0\\0\\0\\x20ftypisom, and more')
    print('A {\"filepath\": \"' + home + '/out/media.mp4\"}', flush=True)
";
    let (worker, origin, _dir) = worker(program, "");
    let order = json!({"url": origin.url("sample.mp4"), "subtitles": ["en"]});
    let id = worker.post("ana", "/api/download", &order.to_string()).json()["id"].as_str().unwrap().to_owned();
    let task = worker.wait_for_status(&id, "completed");
    assert_eq!(task["subtitles"], json!([]), "the video is complete, without the subtitles that took too much space");
    let question = json!({"url": origin.url("sample.mp4")}).to_string();
    assert_eq!(worker.post("ana", "/api/info", &question).status, 502);
    nothing_is_left(&worker);
}

#[test]
fn a_job_of_an_older_version_starts_over() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, 1);
    worker.kill();
    let job = worker.job(&id);
    fs::remove_dir_all(&job).unwrap();
    // In that version, the child could have written all of this without any check.
    for folder in ["out", "tmp", "ready"] {
        fs::create_dir_all(job.join(folder)).unwrap();
        fs::write(job.join(folder).join("media.mp4"), b"\0\0\0\x20ftypisom, and nothing else").unwrap();
    }
    worker.start_again();
    let task = worker.wait_for_status(&id, "completed");
    assert_eq!(task["filesize"], json!(fs::metadata(media(&worker, &id)).unwrap().len()));
    assert_eq!(fs::read(media(&worker, &id)).unwrap(), crate::media::read("sample.mp4"));
    nothing_is_left(&worker);
}

fn media(worker: &Worker, id: &str) -> impl AsRef<Path> {
    worker.media(id).join("media.mp4")
}
