//! The lock on a data folder. At most one `sallyport up` runs a folder; it holds a lock on a file that contains its process ID.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::getppid;
use thiserror::Error;

use super::Notification;

/// How long to wait for the end of a process that was killed a moment ago.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The right to run a data folder, until this is dropped or the process ends.
#[derive(Debug)]
pub struct InstanceLock {
    _lock: File,
}

/// The `sallyport up` that started this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervisor(());

/// Why this process cannot run a data folder.
#[derive(Debug, Error)]
pub enum InstanceLockError {
    /// An `up` is running it.
    #[error("`sallyport up` is already running on this data folder, as process {}; to restart what it runs without downtime, send it SIGUSR2", shown(*.0))]
    RunByUp(Option<u32>),
    /// A separately started gateway is running on it.
    #[error("a gateway is already running on this data folder, as process {}; stop it first", shown(*.0))]
    RunByGateway(Option<u32>),
    /// The lock file cannot be opened or locked.
    #[error("{0}: {1}")]
    Lock(PathBuf, io::Error),
}

fn shown(pid: Option<u32>) -> String {
    pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}

impl InstanceLock {
    /// Locks the folder; `gateway` reports which gateway answers on it.
    ///
    /// # Errors
    /// Fails if another process runs the folder and has not ended within 2 s.
    pub fn take(data_dir: &Path, gateway: impl Fn() -> Option<Option<u32>>) -> Result<Self, InstanceLockError> {
        let begun = Instant::now();
        loop {
            let refusal = match try_lock(data_dir)? {
                Some(mut lock) => match gateway() {
                    None => {
                        note(&mut lock).map_err(|e| InstanceLockError::Lock(path(data_dir), e))?;
                        return Ok(Self { _lock: lock });
                    }
                    Some(pid) => InstanceLockError::RunByGateway(pid),
                },
                None => InstanceLockError::RunByUp(holder(data_dir)),
            };
            if begun.elapsed() >= LOCK_TIMEOUT {
                return Err(refusal);
            }
            sleep(POLL_INTERVAL);
        }
    }
}

impl Supervisor {
    /// Returns the `up` that started this process, or None if no `up` runs the folder.
    ///
    /// # Errors
    /// Fails if an `up` runs the folder but did not start this process.
    pub fn of(data_dir: &Path) -> Result<Option<Self>, InstanceLockError> {
        let path = path(data_dir);
        // A shared lock, so that two processes that check at the same time do not mistake each other for an `up`.
        match File::open(&path).map_err(TryLockError::Error).and_then(|file| file.try_lock_shared()) {
            Ok(()) => return Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(InstanceLockError::Lock(path, error)),
            Err(TryLockError::WouldBlock) => {}
        }
        let parent = getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
        match holder(data_dir) {
            Some(pid) if Some(pid) == parent => Ok(Some(Self(()))),
            other => Err(InstanceLockError::RunByUp(other)),
        }
    }

    /// Asks the `up` to start a successor of this process.
    pub fn ask_for_successor(self) {
        Notification::WantsSuccessor.tell();
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("up.lock")
}

/// Returns None if another process holds the lock.
fn try_lock(data_dir: &Path) -> Result<Option<File>, InstanceLockError> {
    let path = path(data_dir);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let locked = opened.map_err(TryLockError::Error).and_then(|file| file.try_lock().map(|()| file));
    match locked {
        Ok(file) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(InstanceLockError::Lock(path, error)),
    }
}

fn note(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

fn holder(data_dir: &Path) -> Option<u32> {
    fs::read_to_string(path(data_dir)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_run_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let take = || InstanceLock::take(dir.path(), || None);
        assert_eq!(Supervisor::of(dir.path()).unwrap(), None);
        let first = take().unwrap();
        let ours = Some(std::process::id());
        assert!(matches!(take(), Err(InstanceLockError::RunByUp(pid)) if pid == ours));
        assert!(matches!(Supervisor::of(dir.path()), Err(InstanceLockError::RunByUp(pid)) if pid == ours));
        drop(first);
        assert!(matches!(
            InstanceLock::take(dir.path(), || Some(Some(7))),
            Err(InstanceLockError::RunByGateway(Some(7)))
        ));
        drop(take().unwrap());
        assert_eq!(Supervisor::of(dir.path()).unwrap(), None, "the process ID of an ended process does not count");
    }
}
