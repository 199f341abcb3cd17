//! A small separate file system, for tests that fill it.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::thread::UnshareFlags;

use crate::{programs::eventually, skips::skipped};

/// A file system that only this test sees; unmounted on drop.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Lets this thread and its children mount file systems that nobody else sees. Returns false, and reports the test as
    /// skipped, if this user may not.
    #[expect(deprecated, reason = "the replacement is unsafe, because of a flag that is not used here")]
    pub(crate) fn can_be_mounted() -> bool {
        if rustix::thread::unshare(UnshareFlags::NEWNS).is_err() {
            skipped("only root can mount a disk for a test");
            return false;
        }
        run("mount", &["--make-rprivate", "/"]);
        true
    }

    pub(crate) fn mount(at: &Path, size: &str) -> Self {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none", at.to_str().unwrap()]);
        Self(at.to_owned())
    }

    /// Remounts it as soon as nobody writes to it any more.
    pub(crate) fn remount(&self, how: &str) {
        let args = ["-o", &format!("remount,{how}"), self.0.to_str().unwrap()];
        eventually("a remount", || Command::new("mount").args(args).status().unwrap().success().then_some(()));
    }

    pub(crate) fn free(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.0).unwrap();
        space.f_bavail * space.f_frsize
    }

    /// Fills it until `bytes` are left.
    pub(crate) fn leave(&self, bytes: u64) {
        let filler = usize::try_from(self.free() - bytes).unwrap();
        fs::write(self.0.join("filler"), vec![0; filler]).unwrap();
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.0.join("filler")).unwrap();
        while filler.write(&[0; 4096]).is_ok_and(|n| n > 0) {}
    }

    pub(crate) fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}
