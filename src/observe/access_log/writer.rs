//! The thread that puts lines into the file: in batches, whole, and never more than the disk can spare.

use std::{
    mem,
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    Pending, Shared,
    file::{LogFile, Place},
};

/// Lines wait so long at most before they are in the file.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Budgets last so long, and so often the file and its disk are looked at.
const TURN_EVERY: Duration = Duration::from_secs(1);

/// What the thread works with.
pub(super) struct Writer {
    file: LogFile,
    /// What the disk has not taken yet.
    rest: Vec<u8>,
    /// True where `rest` goes on with a line whose start is in the file.
    mid_line: bool,
    /// Room that is left on the disk for others, in bytes.
    reserve: u64,
    /// What is wrong, as far as that was told.
    trouble: Option<Trouble>,
    /// True while the file has its full size and cannot be moved.
    is_stuck: bool,
    started: Instant,
    turned: Instant,
}

/// What keeps lines from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The disk does not take them.
    Failing,
    /// The disk has less room than the reserve.
    LittleRoom,
}

impl Writer {
    pub(super) fn new(file: LogFile, reserve: u64) -> Self {
        // What a torn line lacks; its end is lost.
        let rest = if file.is_torn() { b"\n".to_vec() } else { Vec::new() };
        let (mid_line, trouble, is_stuck, now) = (false, None, false, Instant::now());
        let mut writer = Self { file, rest, mid_line, reserve, trouble, is_stuck, started: now, turned: now };
        writer.notice_room();
        writer
    }

    /// Whether only lines of users are to be written.
    pub(super) fn is_sparing(&self) -> bool {
        self.trouble.is_some() || self.is_stuck
    }

    /// Requests only append to memory; this looks every so often, so that no request pays for a wake-up.
    pub(super) fn run(mut self, shared: &Shared) {
        loop {
            let pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut pending, _) = shared
                .wake
                .wait_timeout_while(pending, FLUSH_EVERY, |pending| !pending.closed)
                .unwrap_or_else(PoisonError::into_inner);
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

    /// Takes what waits, once the disk has taken all that it was given before.
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
                warn!("the access log can be written again");
            }
            Ok(()) => {}
            Err(error) if self.trouble == Some(Trouble::Failing) => drop(error),
            Err(error) => {
                self.trouble = Some(Trouble::Failing);
                error!(%error, "cannot write the access log; lines wait in memory as long as there is room");
            }
        }
    }

    fn rotate(&mut self) {
        let rotated = if self.file.is_full() { self.file.rotate() } else { Ok(()) };
        let was_stuck = mem::replace(&mut self.is_stuck, rotated.is_err());
        match rotated {
            Err(error) if !was_stuck => {
                error!(%error, "cannot rotate the access log; only requests of users are logged until that works");
            }
            _ => {}
        }
    }

    /// Looks at file and disk, and says so when that changes what is written.
    fn settle(&mut self, shared: &Shared) {
        match self.file.look() {
            Ok(Place::Same) => {}
            Ok(Place::Another) => self.begin_whole(shared),
            Err(error) => error!(%error, "cannot open the access log anew; the old file is written on"),
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
            Some(_) => warn!(reserve = self.reserve, "the disk is nearly full; only requests of users are logged"),
            None => info!("the disk has room again; all requests are logged"),
        }
        self.trouble = found;
    }

    fn look(&self) -> Option<Trouble> {
        let space = rustix::fs::statvfs(self.file.folder()?).ok()?;
        let left = space.f_bavail.saturating_mul(space.f_frsize);
        (left < self.reserve).then_some(Trouble::LittleRoom)
    }

    /// In another file nothing goes on that began in the one before.
    fn begin_whole(&mut self, shared: &Shared) {
        if mem::take(&mut self.mid_line) {
            let end = self.rest.iter().position(|b| *b == b'\n').map_or(self.rest.len(), |end| end + 1);
            self.rest.drain(..end);
            shared.lose(1);
        }
    }

    /// What the disk does not take by now is lost.
    fn end(self, shared: &Shared) {
        let lines = self.rest.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count() as u64;
        if lines > 0 {
            shared.lose(lines);
            error!(lines, "the gateway ends, and the disk has not taken these lines of the access log");
        }
    }
}
