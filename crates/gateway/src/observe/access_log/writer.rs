//! The thread that writes lines to the file: in batches, complete, and never more than the disk can spare.

use std::{
    mem,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    Pending, Shared,
    file::{FileCheck, LogFile},
};

/// The longest time that a line waits before it is written.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// The length of a budget's second, after which the file and its disk are checked too.
const TURN_EVERY: Duration = Duration::from_secs(1);

/// The state of the thread.
pub(super) struct Writer {
    file: LogFile,
    /// What the disk has not accepted yet.
    rest: Vec<u8>,
    /// Whether `rest` continues a line whose start is already in the file.
    mid_line: bool,
    /// Space on the disk that is left for other uses, in bytes.
    reserve: u64,
    /// The current problem, which has been logged.
    trouble: Option<Trouble>,
    /// Whether the file has reached its maximum size and cannot be rotated.
    is_stuck: bool,
    started: Instant,
    turned: Instant,
}

/// What prevents lines from being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The disk does not accept them.
    Failing,
    /// The free space is below the reserve.
    LittleRoom,
}

impl Writer {
    pub(super) fn new(file: LogFile, reserve: u64) -> Self {
        // Terminates an incomplete last line, whose end is lost.
        let rest = if file.is_torn() { b"\n".to_vec() } else { Vec::new() };
        let now = Instant::now();
        let mut writer =
            Self { file, rest, mid_line: false, reserve, trouble: None, is_stuck: false, started: now, turned: now };
        writer.notice_room();
        writer
    }

    /// Whether only lines of users are written.
    pub(super) fn is_sparing(&self) -> bool {
        self.trouble.is_some() || self.is_stuck
    }

    /// Runs the thread. Requests only append to memory; this thread polls, so that no request pays for a wake-up.
    pub(super) fn run(mut self, shared: &Shared) {
        loop {
            let mut pending = shared.pending.lock();
            shared.wake.wait_while_for(&mut pending, |pending| !pending.closed, FLUSH_EVERY);
            let closed = pending.closed;
            let turn = closed || self.turned.elapsed() >= TURN_EVERY;
            if turn {
                pending.turn(shared.format, self.is_sparing(), self.started.elapsed());
            }
            self.take(&mut pending);
            drop(pending);
            self.flush();
            if closed {
                return self.end(shared);
            }
            if turn {
                self.turned = Instant::now();
                self.settle(shared);
            }
        }
    }

    /// Takes the waiting lines once the disk has accepted all earlier ones.
    fn take(&mut self, pending: &mut Pending) {
        if self.rest.is_empty() {
            mem::swap(&mut self.rest, &mut pending.lines);
        } else if pending.closed {
            self.rest.append(&mut pending.lines);
        }
    }

    fn flush(&mut self) {
        if self.rest.is_empty() {
            return;
        }
        if !self.mid_line && self.trouble != Some(Trouble::Failing) {
            self.rotate();
        }
        let (written, result) = self.file.append(&self.rest);
        self.mid_line = written > 0 && self.rest.get(written - 1) != Some(&b'\n') || written == 0 && self.mid_line;
        self.rest.drain(..written);
        self.rest.shrink_to(64 << 10);
        match result {
            Ok(()) if self.trouble == Some(Trouble::Failing) => {
                self.trouble = None;
                warn!("writing the access log works again");
            }
            Ok(()) => {}
            Err(error) if self.trouble == Some(Trouble::Failing) => drop(error),
            Err(error) => {
                self.trouble = Some(Trouble::Failing);
                error!(%error, "cannot write the access log; lines wait in memory until it is full");
            }
        }
    }

    fn rotate(&mut self) {
        let rotated = if self.file.is_full() { self.file.rotate() } else { Ok(()) };
        let was_stuck = mem::replace(&mut self.is_stuck, rotated.is_err());
        match rotated {
            Err(error) if !was_stuck => {
                error!(%error, "cannot rotate the access log; logging only requests of users until rotation works");
            }
            _ => {}
        }
    }

    /// Checks file and disk, and logs any change of what is written.
    fn settle(&mut self, shared: &Shared) {
        match self.file.look() {
            Ok(FileCheck::Same) => {}
            Ok(FileCheck::Another) => self.begin_whole(shared),
            Err(error) => error!(%error, "cannot reopen the access log; still writing to the old file"),
        }
        if self.trouble != Some(Trouble::Failing) {
            self.notice_room();
        }
        if self.is_stuck && !self.mid_line {
            self.rotate();
        }
        shared.sparing.store(self.is_sparing(), Ordering::Relaxed);
    }

    fn notice_room(&mut self) {
        let found = self.look();
        match found {
            _ if found == self.trouble => {}
            Some(_) => warn!(reserve = self.reserve, "the disk is nearly full; logging only requests of users"),
            None => info!("the disk has free space again; logging all requests"),
        }
        self.trouble = found;
    }

    fn look(&self) -> Option<Trouble> {
        let space = rustix::fs::statvfs(self.file.folder()?).ok()?;
        let left = space.f_bavail.saturating_mul(space.f_frsize);
        (left < self.reserve).then_some(Trouble::LittleRoom)
    }

    /// Drops the rest of a line that began in the previous file.
    fn begin_whole(&mut self, shared: &Shared) {
        if mem::take(&mut self.mid_line) {
            let end = self.rest.iter().position(|b| *b == b'\n').map_or(self.rest.len(), |end| end + 1);
            self.rest.drain(..end);
            shared.lose(1);
        }
    }

    /// Ends the thread. Lines that the disk has not accepted by now are lost.
    fn end(self, shared: &Shared) {
        let lines = self.rest.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count() as u64;
        if lines > 0 {
            shared.lose(lines);
            error!(lines, "lost lines of the access log that the disk did not accept before shutdown");
        }
    }
}
