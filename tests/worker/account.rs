//! An account other than root, under which tests run by root start the worker. What the account needs is copied to a folder that it can
//! enter, because the checkout may lie in root's home directory.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        prelude::OsStrExt,
    },
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{process::yt_dlp, sandbox::js_runtime, skips::skipped, town::run};

/// The uid of `nobody`, which owns nothing else, like the account of a systemd unit.
pub(crate) const ACCOUNT: &str = "65534";

/// Gives the worker's folder to the account and runs a copy of the program there without capabilities. Any user but root runs it as
/// themselves.
pub(crate) const AS_ACCOUNT: &[&str] = &[
    "sh",
    "-c",
    "[ \"$(id -u)\" -eq 0 ] || exec \"$@\"
     home=${4%/*} program=${4%/*}/sallyport
     chown -R 65534:65534 \"$home\" && cp \"$1\" \"$program\" && chmod 0755 \"$program\" && shift &&
     exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all \"$program\" \"$@\"",
    "sh",
];

/// A folder that every account can enter.
pub(crate) fn open_folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Returns the real yt-dlp where the account can run it: in a copy of its Python environment under `dir`.
pub(crate) fn yt_dlp_for_account(dir: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(yt_dlp()).unwrap();
    let environment = real.parent().and_then(Path::parent).filter(|prefix| prefix.join("pyvenv.cfg").exists());
    let (true, Some(environment)) = (rustix::process::geteuid().is_root(), environment) else { return Some(real) };
    let python = fs::canonicalize(environment.join("bin/python3")).unwrap();
    if !is_open_to_all(&python) {
        skipped(&format!("no other account can run {}, which yt-dlp was installed with", python.display()));
        return None;
    }
    Some(copy_environment(environment, &python, &real, &dir.join("environment")))
}

/// Returns the line of a configuration that sets a JavaScript runtime that the account can run.
pub(crate) fn js_runtime_for_account(dir: &Path) -> Option<String> {
    let copy = dir.join("deno");
    fs::copy(js_runtime()?, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    Some(format!("js_runtime = {:?}", copy.to_str()?))
}

fn copy_environment(environment: &Path, python: &Path, real: &Path, copy: &Path) -> PathBuf {
    fs::create_dir_all(copy.join("bin")).unwrap();
    let [lib, settings] = ["lib", "pyvenv.cfg"].map(|name| environment.join(name).to_str().unwrap().to_owned());
    // Keeps the modification times, because compiled modules are valid only for sources of the same time.
    run("cp", &["-a", &lib, &settings, copy.to_str().unwrap()]);
    let interpreter = copy.join("bin/python3");
    symlink(python, &interpreter).unwrap();
    // Its first line names the interpreter of the other environment.
    let program = fs::read(real).unwrap();
    let first = program.iter().position(|byte| *byte == b'\n').unwrap();
    let program = [b"#!", interpreter.as_os_str().as_bytes(), &program[first..]].concat();
    fs::write(copy.join("bin/yt-dlp"), program).unwrap();
    fs::set_permissions(copy.join("bin/yt-dlp"), fs::Permissions::from_mode(0o755)).unwrap();
    run("chmod", &["-R", "a+rX", copy.parent().unwrap().to_str().unwrap()]);
    copy.join("bin/yt-dlp")
}

fn is_open_to_all(path: &Path) -> bool {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    path.ancestors().all(|part| mode(part) & 0o001 != 0)
}
