//! The sandbox: what a malicious child can read, write, start and consume. A stand-in for yt-dlp does what a page could have made the
//! real one do.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    origin::Origin,
    places,
    process::{Setup, Worker, eventually, processes_of, python_yt_dlp, signal, yt_dlp},
    skips::skipped,
};

/// Starts a worker whose yt-dlp is a Python program. Also returns the folder that holds the program.
fn worker(program: &str) -> (Worker, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), program);
    (Worker::with(&Origin::start(), &Setup { yt_dlp, extra: readable.leak(), ..Setup::default() }), dir)
}

/// Runs the program, and returns what it reports as the title of a search's only result.
pub(crate) fn told(worker: &Worker) -> Value {
    told_of(worker, "x")
}

/// The same, with `text` as an argument for the program.
fn told_of(worker: &Worker, text: &str) -> Value {
    let answer = worker.get("ana", &format!("/api/search?q={}", text.replace('/', "%2F")));
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    serde_json::from_str(answer.json()["results"][0]["title"].as_str().unwrap()).unwrap()
}

pub(crate) const TELL: &str = "\ndef tell(what):\n    print(json.dumps({'entries': [{'title': json.dumps(what)}]}))\n";

#[test]
fn a_child_reads_and_writes_nothing_but_its_own_folder() {
    let program = format!(
        "import json, os, sys{TELL}
home = os.environ['HOME']
if os.path.isdir(home + '/out'):
    open(home + '/out/media.mp4', 'wb').write(b'\\0\\0\\0\\x20ftypisom' + bytes(1000))
    print('A ' + json.dumps({{'filepath': home + '/out/media.mp4'}}))
    sys.exit()
film = sys.argv[-1].split(':', 1)[1]
data = os.path.dirname(os.path.dirname(os.path.dirname(home)))
root = os.path.dirname(data)
parent = os.getppid()
def attempt(path, mode):
    try:
        open(path, mode).close()
        return True
    except OSError:
        return False
read = [data + '/worker.db', data + '/secrets/worker.key', data + '/secrets/egress.key', root + '/config.toml', root + '/log',
        '/etc/passwd', '/etc/shadow', '/root/.bashrc', '/proc/1/environ', '/proc/1/cmdline', '/proc/self/../1/status']
read += [film]
write = [film, data + '/x', data + '/media/x', data + '/media/.jobs/x', root + '/x', '/tmp/x', '/var/tmp/x', '/dev/shm/x', '/usr/x']
listed = []
for folder in [data, data + '/media', os.path.dirname(film), '/root', '/home', '/tmp', '/etc', '/proc', '/var']:
    try:
        os.listdir(folder)
        listed.append(folder)
    except OSError:
        pass
tell({{'read': [p for p in read if attempt(p, 'r')], 'written': [p for p in write if attempt(p, 'w')],
      'listed': listed, 'own': attempt(home + '/x', 'w') and attempt(home + '/x', 'r')}})
"
    );
    let (worker, _dir) = worker(&program);
    let victim = worker.completed("bob", &format!("http://{}/film.mp4", crate::town::PUBLIC));
    let film = worker.media(victim["id"].as_str().unwrap()).join("media.mp4");
    assert_eq!(fs::metadata(&film).unwrap().len(), 1_012);
    let expected = json!({"read": [], "written": [], "listed": [], "own": true});
    assert_eq!(told_of(&worker, film.to_str().unwrap()), expected);
}

#[test]
fn a_playlist_reaches_no_other_users_file_even_without_rules_for_ffmpeg() {
    let origin = Origin::start();
    let first = Worker::start(&origin);
    let victim = first.completed("bob", &origin.url("sample.mp4"));
    let film = first.media(victim["id"].as_str().unwrap()).join("media.mp4");
    let program = format!(
        "import json, os, subprocess{TELL}
home, film = os.environ['HOME'], {film:?}
lists = {{'a.m3u8': '#EXTM3U\\n#EXT-X-TARGETDURATION:6\\n#EXTINF:6,\\nfile://' + film + '\\n#EXT-X-ENDLIST\\n',
         'b.ffconcat': 'ffconcat version 1.0\\nfile ' + film + '\\n'}}
sizes = []
for name, text in lists.items():
    open(home + '/' + name, 'w').write(text)
    out = home + '/' + name + '.mkv'
    subprocess.run(['ffmpeg', '-v', 'quiet', '-nostdin', '-protocol_whitelist', 'file,http,tcp,concat,crypto,data']
                   + (['-safe', '0'] if name == 'b.ffconcat' else ['-allowed_extensions', 'ALL'])
                   + ['-i', home + '/' + name, '-c', 'copy', out])
    sizes.append(os.path.getsize(out) if os.path.exists(out) else 0)
    try:
        os.link(film, home + '/linked')
        sizes.append('linked')
    except OSError:
        pass
    try:
        os.path.lexists(home + '/s') or os.symlink(film, home + '/s')
        open(home + '/s').close()
        sizes.append('by a link')
    except OSError:
        pass
tell(sizes)
",
        film = film.to_str().unwrap()
    );
    let (worker, _dir) = worker(&program);
    assert_eq!(told(&worker), json!([0, 0]));
    assert!(copies_without_a_sandbox(&film), "without a sandbox, the playlists work");
}

/// Runs the real yt-dlp without the arguments that restrict ffmpeg, which would otherwise copy what a playlist names.
const WITHOUT_HYGIENE: &str = "import runpy, sys
words, args = iter(sys.argv[1:]), []
for word in words:
    if word in ('--postprocessor-args', '--downloader-args'):
        next(words)
    else:
        args.append(word)
if args[-1].endswith('?meta'):
    args.insert(0, '--embed-metadata')
sys.argv[1:] = args
runpy.run_path(YT_DLP, run_name='__main__')
";

/// Creates such a program for the same Python. Also returns the configuration line that lets it read the real yt-dlp.
fn yt_dlp_without_hygiene(dir: &Path) -> Option<(PathBuf, String)> {
    let real = yt_dlp();
    let content = fs::read(&real).ok()?;
    let interpreter = content.split(|byte| *byte == b'\n').next().filter(|line| line.starts_with(b"#!"))?;
    let real = format!("{:?}", real.to_str()?);
    let path = dir.join("yt-dlp");
    let text = [interpreter, b"\n", WITHOUT_HYGIENE.replace("YT_DLP", &real).as_bytes()].concat();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Some((path, format!("readable = [{real}, {:?}]", dir.to_str()?)))
}

#[test]
fn no_post_processor_reaches_another_users_file_even_without_our_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let Some((wrapped, readable)) = yt_dlp_without_hygiene(dir.path()) else {
        skipped("this yt-dlp is not a Python program");
        return;
    };
    let origin = Origin::start();
    let extra = format!("{readable}\nretries = 0").leak();
    let worker = Worker::with(&origin, &Setup { yt_dlp: wrapped, extra, ..Setup::default() });
    let victim = worker.completed("bob", &origin.url("sample.mp4"));
    let film = worker.media(victim["id"].as_str().unwrap()).join("media.mp4");
    // A readable copy, to show what a playlist would do if the file were not protected.
    let open = dir.path().join("film.mp4");
    fs::copy(&film, &open).unwrap();
    for attack in ATTACKS {
        let closed = attack.order(&worker, &origin, "closed", &film);
        let open = attack.order(&worker, &origin, "open", &open);
        let [closed, open] = [closed, open]
            .map(|id| worker.wait_for(&id, |task| task["status"] == "error" || task["status"] == "completed"));
        println!("{} {}: {} if the file is readable", attack.name, attack.order, open["status"]);
        assert_eq!(closed["status"], "error", "{closed}");
        assert!(!worker.media(closed["id"].as_str().unwrap()).exists());
    }
}

/// A playlist in place of a video, and the download request that makes ffmpeg read it.
struct Attack {
    name: &'static str,
    order: &'static str,
}

const ATTACKS: &[Attack] = &[
    Attack { name: "master.m3u8", order: "{}" },
    Attack { name: "list.mp4", order: "{\"format\": \"mkv\"}" },
    Attack { name: "list.mp4", order: "{\"download_type\": \"audio\", \"format\": \"mp3\"}" },
    Attack { name: "list.mp4?meta", order: "{}" },
    Attack { name: "list.mp4?meta", order: "{\"format\": \"mkv\"}" },
];

impl Attack {
    /// Requests the download, with playlists that refer to `film` and whose names start with `which`. Returns the task's id.
    fn order(&self, worker: &Worker, origin: &Origin, which: &str, film: &Path) -> String {
        let list = |what: &str| format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{what}\n#EXT-X-ENDLIST\n");
        for name in ["list.mp4", "list.mp4?meta", "segment.ts"] {
            origin.serve(&format!("{which}-{name}"), &list(&format!("file://{}", film.display())));
        }
        origin.serve(&format!("{which}-stream.m3u8"), &list(&format!("{which}-segment.ts")));
        let master = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",DEFAULT=YES,URI=\"stream.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=320x180,CODECS=\"avc1.64000d,mp4a.40.2\",AUDIO=\"a\"\n\
            stream.m3u8\n";
        origin.serve(&format!("{which}-master.m3u8"), &master.replace("stream.m3u8", &format!("{which}-stream.m3u8")));
        let mut order: Value = serde_json::from_str(self.order).unwrap();
        order["url"] = json!(origin.url(&format!("{which}-{}", self.name)));
        worker.post("ana", "/api/download", &order.to_string()).json()["id"].as_str().unwrap().to_owned()
    }
}

/// Returns whether such a playlist works as intended when ffmpeg is not confined.
fn copies_without_a_sandbox(film: &Path) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let list = format!("ffconcat version 1.0\nfile {}\n", film.display());
    fs::write(dir.path().join("b.ffconcat"), list).unwrap();
    let copied = Command::new("ffmpeg")
        .args(["-v", "quiet", "-nostdin", "-safe", "0", "-i", "b.ffconcat", "-c", "copy", "out.mkv"])
        .current_dir(dir.path())
        .status()
        .unwrap();
    copied.success() && fs::metadata(dir.path().join("out.mkv")).unwrap().len() > 10_000
}

#[test]
fn a_child_has_only_ip_sockets_and_no_access_to_other_processes() {
    let program = format!(
        "import ctypes, json, os, socket{TELL}
libc = ctypes.CDLL(None, use_errno=True)
def refused(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *arguments) == -1 and ctypes.get_errno() == 1
families = []
for family in (socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_VSOCK, socket.AF_ALG):
    try:
        socket.socket(family, socket.SOCK_RAW if family == socket.AF_PACKET else socket.SOCK_STREAM)
        families.append(str(family))
    except PermissionError:
        pass
    except OSError as error:
        families.append(str(error))
calls = {{'ptrace': 101, 'mount': 165, 'unshare': 272, 'setns': 308, 'bpf': 321, 'io_uring_setup': 425, 'keyctl': 250,
         'process_vm_readv': 310, 'userfaultfd': 323, 'shmget': 29, 'semget': 64, 'msgget': 68, 'mq_open': 240}}
if os.uname().machine != 'x86_64':
    calls = {{}}
killed = []
for pid in (os.getppid(), {worker}):
    try:
        os.kill(pid, 0)
        if pid:
            killed.append(pid)
    except OSError:
        pass
tell({{'families': families, 'allowed': [name for name, number in calls.items() if not refused(number, 0, 0, 0, 0, 0)],
      'killed': killed, 'descriptors': [fd for fd in os.listdir('/proc/self/fd') if int(fd) > 2 and fd not in {leaked:?}],
      'pair': len(socket.socketpair())}})
",
        worker = std::process::id(),
        // Descriptors inherited from the test's own parent are open in all processes; 3 is the one that lists the folder.
        leaked = open_here().iter().map(String::as_str).chain(["3"]).collect::<Vec<_>>(),
    );
    let (worker, _dir) = worker(&program);
    let expected = json!({"families": [], "allowed": [], "killed": [], "descriptors": [], "pair": 2});
    assert_eq!(told(&worker), expected);
}

fn open_here() -> Vec<String> {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_child_cannot_exceed_its_limits_on_memory_and_tasks() {
    let program = format!(
        "import json, mmap, os, threading{TELL}
def memory():
    blocks = []
    try:
        for _ in range(96):
            blocks.append(mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        return 'all'
    except (OSError, MemoryError):
        return 'some' if blocks else 'none'
def tasks():
    stop, threads = threading.Event(), []
    try:
        for _ in range(2000):
            thread = threading.Thread(target=stop.wait, daemon=True)
            thread.start()
            threads.append(thread)
        return 'all'
    except RuntimeError:
        return 'some' if threads else 'none'
    finally:
        stop.set()
tell([memory(), tasks()])
"
    );
    let (worker, _dir) = worker(&program);
    assert_eq!(told(&worker), json!(["some", "some"]));
}

#[test]
fn a_process_that_hides_in_its_own_session_ends_with_its_job() {
    let program = format!(
        "import json, subprocess{TELL}
subprocess.Popen(['setsid', 'sh', '-c', 'setsid sleep 1000 & sleep 1000'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
tell('started')
"
    );
    let (worker, _dir) = worker(&program);
    let looks = format!("{}/look-", worker.job("").display()).replace("//", "/");
    assert_eq!(told(&worker), json!("started"));
    eventually("the end of all processes", || processes_of(&looks).is_empty().then_some(()));
}

/// A first process of a namespace that tries to drop its parent-death signal, and ignores SIGTERM.
const HIDING: &str = "import ctypes, os, time\n\
    libc = ctypes.CDLL(None)\n\
    print('refused' if libc.prctl(1, 0) == -1 else 'allowed', flush=True)\n\
    import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
    time.sleep(1000)\n";

#[test]
fn the_first_process_cannot_hide_either() {
    let (worker, _dir) = worker(HIDING);
    let looks = format!("{}/look-", worker.job("").display()).replace("//", "/");
    let request = crate::client::Request::new("GET", "/api/search?q=x").signed("ana", worker.address).to_string();
    let mut stream = std::net::TcpStream::connect(worker.address).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    eventually("the child", || (processes_of(&looks).len() >= 2).then_some(()));
    drop(stream);
    eventually("the end of the child", || processes_of(&looks).is_empty().then_some(()));
}

#[test]
fn the_signal_of_a_cancellation_ends_the_first_process_whatever_it_ignores() {
    let dir = tempfile::tempdir().unwrap();
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), HIDING);
    let extra = format!("{readable}\ninfo_timeout = \"5m\"").leak();
    let worker = Worker::with(&Origin::start(), &Setup { yt_dlp, extra, ..Setup::default() });
    let looks = format!("{}/look-", worker.job("").display()).replace("//", "/");
    let request = crate::client::Request::new("GET", "/api/search?q=x").signed("ana", worker.address).to_string();
    let mut stream = std::net::TcpStream::connect(worker.address).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let that_has = |word: &str| {
        let has = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(word));
        processes_of(&looks).into_iter().find(has)
    };
    let reaper = eventually("the reaper", || that_has("python3\0").and(that_has("\0--keep\0")));
    // The signal that the worker sends first. The worker has no reason to do anything else, since the client is still connected.
    signal("-TERM", reaper);
    eventually("the end of the child", || processes_of(&looks).is_empty().then_some(()));
    drop(stream);
}

#[test]
fn a_child_cannot_create_a_link_that_the_worker_would_follow() {
    let program = format!(
        "import json, os{TELL}
made = []
for name, target in (('link', '/etc/passwd'), ('up', '../..')):
    try:
        os.symlink(target, os.environ['HOME'] + '/' + name)
        made.append(name)
    except OSError:
        pass
tell(made)
"
    );
    let (worker, _dir) = worker(&program);
    assert_eq!(told(&worker), json!([]));
}

#[test]
fn a_child_cannot_create_namespaces_or_bypass_the_port_rules() {
    let program = format!(
        "import ctypes, errno, json, os, socket{TELL}
libc = ctypes.CDLL(None, use_errno=True)
allowed = []
def call(name, number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(number, *arguments) != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        allowed.append(name)
if os.uname().machine == 'x86_64':
    for flag in (0x10000000, 0x40000000, 0x00020000, 0x20000000):
        if libc.syscall(56, flag | 17, 0, 0, 0, 0) == 0:
            os._exit(0)
        if ctypes.get_errno() != errno.EPERM:
            allowed.append(hex(flag))
    call('clone3', 435, 0, 0)
for kind, protocol in ((socket.SOCK_STREAM, 262), (socket.SOCK_DGRAM, 0), (socket.SOCK_DGRAM, 17), (socket.SOCK_RAW, 1),
                       (socket.SOCK_STREAM, 132), (socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 262)):
    try:
        socket.socket(socket.AF_INET, kind, protocol)
        allowed.append(str((kind, protocol)))
    except PermissionError:
        pass
tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
for what in (lambda: tcp.sendto(b'x', 0x20000000, ('127.0.0.1', 9)), lambda: tcp.setsockopt(6, 30, 1), lambda: tcp.listen()):
    try:
        what()
        allowed.append('tcp')
    except PermissionError:
        pass
    except OSError as error:
        allowed.append(str(error))
try:
    tcp.connect(('127.0.0.1', 9))
except PermissionError:
    pass
tell(allowed)
"
    );
    let (worker, _dir) = worker(&program);
    assert_eq!(told(&worker), json!([]));
}

/// Reports which of the calls that name a process are allowed, and which of those on the caller itself are refused.
const SETTINGS: &str = "import ctypes, errno, os, resource, threading
libc = ctypes.CDLL(None, use_errno=True)
me = os.getpid()
def error_of(what):
    try:
        what()
        return 0
    except OSError as error:
        return error.errno
def call(*arguments):
    if libc.syscall(*arguments) == -1:
        raise OSError(ctypes.get_errno(), 'call')
files = resource.getrlimit(resource.RLIMIT_NOFILE)
ioprio_set = {'x86_64': 251, 'aarch64': 30}[os.uname().machine]
migrate, move = {'x86_64': (256, 279), 'aarch64': (238, 239)}[os.uname().machine]
queue, send = {'x86_64': (129, 424), 'aarch64': (138, 424)}[os.uname().machine]
at_others = {
    'prlimit': lambda: resource.prlimit(me, resource.RLIMIT_NOFILE, files),
    'prlimit, to look': lambda: resource.prlimit(me, resource.RLIMIT_NOFILE),
    'setpriority': lambda: os.setpriority(os.PRIO_PROCESS, me, 19),
    'setpriority of a group': lambda: os.setpriority(os.PRIO_PGRP, 0, 19),
    'setpriority of a user': lambda: os.setpriority(os.PRIO_USER, 0, 19),
    'sched_setaffinity': lambda: os.sched_setaffinity(me, os.sched_getaffinity(0)),
    'sched_setscheduler': lambda: os.sched_setscheduler(me, os.SCHED_OTHER, os.sched_param(0)),
    'sched_setparam': lambda: os.sched_setparam(me, os.sched_param(0)),
    'ioprio_set': lambda: call(ioprio_set, 1, me, (3 << 13) | 7),
    'ioprio_set of a user': lambda: call(ioprio_set, 3, 0, (3 << 13) | 7),
    'migrate_pages': lambda: call(migrate, me, 0, 0, 0),
    'move_pages': lambda: call(move, me, 0, 0, 0, 0, 0),
    'rt_sigqueueinfo': lambda: call(queue, me, 0, 0),
    'pidfd_send_signal': lambda: call(send, -1, 0, 0, 0),
}
at_itself = {
    'setrlimit': lambda: resource.setrlimit(resource.RLIMIT_NOFILE, files),
    'nice': lambda: os.nice(1),
    'sched_setaffinity': lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    'ioprio_set': lambda: call(ioprio_set, 1, 0, (2 << 13) | 7),
    'thread': lambda: threading.Thread(target=int).start(),
    'kill': lambda: os.kill(me, 0),
}
tell([[name for name, what in at_others.items() if error_of(what) != errno.EPERM],
      [name for name, what in at_itself.items() if error_of(what) != 0]])
";

/// These calls are refused for any named process, even the caller's own, because a filter cannot tell whose id it is.
#[test]
fn a_child_can_set_limits_priorities_and_processors_only_for_itself() {
    let (worker, _dir) = worker(&format!("import json{TELL}{SETTINGS}"));
    assert_eq!(told(&worker), json!([[], []]));
}

/// Runs JavaScript the way yt-dlp runs a page's scripts: compiled just in time, in threads, and killed if it takes too long.
pub(crate) const RUNS_JAVASCRIPT: &str = "import os, subprocess, sys
deno = next(word for word in sys.argv if word.startswith('deno:'))[5:]
command = [deno, 'run', '--ext=js', '--no-code-cache', '--no-prompt', '--no-remote', '--no-lock', '--node-modules-dir=none',
           '--no-config', '--no-npm', '--cached-only', '-']
script = 'let sum = 0; for (let i = 0; i < 30000000; i++) sum = (sum * 31 + i) % 65537; console.log(typeof sum, [3, 1, 2].toSorted().join())'
run = subprocess.run(command, input=script, capture_output=True, text=True)
endless = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
try:
    endless.communicate('console.log(1); for (;;) {}', timeout=3)
except subprocess.TimeoutExpired:
    endless.kill()
tell([run.returncode, run.stdout, run.stderr, endless.wait()])
";

/// Returns the JavaScript runtime, if there is one.
pub(crate) fn js_runtime() -> Option<PathBuf> {
    let installed = places::project().join(".tools/bin/deno");
    let deno = env::var_os("TEST_DENO").map(PathBuf::from).or_else(|| installed.exists().then_some(installed));
    if deno.is_none() {
        skipped("deno was not found");
    }
    deno
}

#[test]
fn a_javascript_runtime_works_in_the_sandbox() {
    let Some(runtime) = js_runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), &format!("import json{TELL}{RUNS_JAVASCRIPT}"));
    let extra = format!("{readable}\njs_runtime = {runtime:?}").leak();
    let worker = Worker::with(&Origin::start(), &Setup { yt_dlp, extra, ..Setup::default() });
    assert_eq!(told(&worker), json!([0, "number 1,2,3\n", "", -9]));
}

/// x32 calls have the same architecture but other numbers, which no list contains. They are caught even if the kernel lacks x32.
#[cfg(target_arch = "x86_64")]
#[test]
fn an_x32_call_kills_the_process_that_makes_it() {
    let program = format!(
        "import ctypes, json, os{TELL}
libc = ctypes.CDLL(None)
ends = []
for number in (39, 512, 521, 101):
    child = os.fork()
    if child == 0:
        libc.syscall(0x40000000 | number, 0, 0, 0, 0)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    ends.append(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
tell(ends)
"
    );
    let (worker, _dir) = worker(&program);
    assert_eq!(told(&worker), json!([31, 31, 31, 31]), "SIGSYS");
}

#[test]
fn a_killed_worker_leaves_no_hidden_processes() {
    let program = "import subprocess, time\n\
        subprocess.Popen(['setsid', 'sleep', '1000'])\ntime.sleep(1000)\n";
    let (mut worker, _dir) = worker(program);
    let looks = format!("{}/look-", worker.job("").display()).replace("//", "/");
    std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut stream = std::net::TcpStream::connect(worker.address).unwrap();
            let request = crate::client::Request::new("GET", "/api/search?q=x").signed("ana", worker.address);
            std::io::Write::write_all(&mut stream, request.to_string().as_bytes()).unwrap();
            stream
        });
        // The reaper, the program and the process that the program has started.
        eventually("all processes", || (processes_of(&looks).len() >= 3).then_some(()));
        signal("-KILL", worker.pid());
        drop(look.join().unwrap());
    });
    eventually("the end of all processes", || processes_of(&looks).is_empty().then_some(()));
    worker.kill();
}

/// Runs the worker in a user namespace that allows no further ones.
const WITHOUT_NAMESPACES: &[&str] =
    &["unshare", "-Ur", "sh", "-c", "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"", "sh"];

#[test]
fn without_a_whole_sandbox_nothing_is_downloaded_unless_that_is_allowed() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { wrapper: WITHOUT_NAMESPACES, ..Setup::default() });
    let answer = worker.get("ana", "/api/search?q=x");
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("sandbox_missing")), "{}", worker.log());
    assert!(worker.log().contains("creating a user namespace failed"), "{}", worker.log());
    let order = json!({"url": origin.url("sample.mp4")}).to_string();
    assert_eq!(worker.post("ana", "/api/download", &order).status, 503);
    drop(worker);

    let extra = "[insecure]\npartial_sandbox = true";
    let worker = Worker::with(&origin, &Setup { wrapper: WITHOUT_NAMESPACES, extra, ..Setup::default() });
    worker.completed("ana", &origin.url("sample.mp4"));
    assert!(worker.log().contains("a weaker sandbox"), "{}", worker.log());
}

#[test]
fn a_separate_guard_serves_a_worker_that_its_unit_confines() {
    let origin = Origin::start();
    let extra = "[egress]\nlisten = \"127.0.0.1:0\"";
    let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let answer = worker.get("ana", "/api/search?q=x");
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("sandbox_missing")));
    assert!(worker.log().contains("this process can send packets past the egress guard"), "{}", worker.log());
    drop(worker);

    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let extra = format!("[egress]\nlisten = \"{address}\"\n[insecure]\npartial_sandbox = true").leak();
    let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let id = worker.download("ana", &origin.url("sample.mp4"));
    worker.wait_for_status(&id, "error");
    let mut guard = Command::new(places::program());
    let mut guard = guard.args(["egress", "--config"]).arg(worker.dir.path().join("config.toml")).spawn().unwrap();
    eventually("the guard", || std::net::TcpStream::connect(address).ok());
    worker.completed("ana", &origin.url("sample.mp4"));
    guard.kill().unwrap();
    guard.wait().unwrap();
}
