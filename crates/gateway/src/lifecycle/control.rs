//! The control socket, as commands and a new gateway see it: a command that has changed state tells the running gateway and waits until
//! the change is in force.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::sockopt::socket_peercred;

use crate::store::Withdrawal;

pub(super) const REFRESH: &str = "refresh";
/// Precedes a revocation that could not be stored.
pub(super) const WITHDRAW: &str = "withdraw";
/// Precedes the address of a client whose ban is to end, if the ban is not stored.
pub(super) const UNBAN: &str = "unban";
/// Asks for all revocations that are not stored.
pub(super) const WITHDRAWN: &str = "withdrawn";
/// Asks for the listening sockets.
pub(super) const HANDOVER: &str = "handover";
/// How long an exchange over the socket may take.
pub(super) const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of telling the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notified {
    /// It runs, and the change is in force.
    InForce,
    /// It runs, and the change is in force except for a part of the state that it could not read, for this reason.
    Partly(String),
    /// No gateway runs.
    NotRunning,
}

/// Returns the path of the socket.
#[must_use]
pub(super) fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Tells the gateway of this data folder that state has changed.
///
/// # Errors
/// Fails if a gateway runs but does not apply the change. It finds the change within seconds by polling.
pub fn tell(data_dir: &Path) -> io::Result<Notified> {
    told(ask(data_dir, REFRESH)?)
}

/// Has the gateway of this data folder enforce a revocation now, and store it once the disk has room.
///
/// # Errors
/// Fails if a gateway runs but does not enforce it.
pub fn withdraw(data_dir: &Path, withdrawal: &Withdrawal) -> io::Result<Notified> {
    told(ask(data_dir, &format!("{WITHDRAW} {}", serde_json::to_string(withdrawal)?))?)
}

/// Has the gateway of this data folder drop a ban that it enforces but has not stored. Returns false if there is none.
///
/// # Errors
/// Fails if a gateway runs but does not answer.
pub fn unban(data_dir: &Path, network: IpAddr) -> io::Result<bool> {
    let answer = ask(data_dir, &format!("{UNBAN} {network}"))?.map(read_answer).transpose()?;
    Ok(answer.is_some_and(|answer| answer.trim() == "ok"))
}

/// Returns the revocations that the running gateway enforces but has not stored; none if no gateway runs.
pub(crate) fn withdrawn(data_dir: &Path) -> Vec<Withdrawal> {
    let answer = ask(data_dir, WITHDRAWN).and_then(|stream| stream.map(read_answer).transpose());
    answer.ok().flatten().and_then(|answer| serde_json::from_str(&answer).ok()).unwrap_or_default()
}

fn told(stream: Option<UnixStream>) -> io::Result<Notified> {
    let Some(stream) = stream else { return Ok(Notified::NotRunning) };
    let answer = read_answer(stream)?;
    match answer.trim().split_once(' ').unwrap_or((answer.trim(), "")) {
        ("ok", _) => Ok(Notified::InForce),
        ("partly", why) => Ok(Notified::Partly(why.to_owned())),
        _ => Err(io::Error::other("the gateway could not read the change; see its log")),
    }
}

fn read_answer(stream: UnixStream) -> io::Result<String> {
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer)
}

/// Returns the process id of the gateway that answers on this data folder, if the system tells it; the outer `None` if no gateway answers.
#[must_use]
pub fn running(data_dir: &Path) -> Option<Option<u32>> {
    let stream = connect(data_dir).ok()??;
    Some(peer(&stream))
}

/// Sends a question to the gateway of this data folder, and returns the stream of the answer; `None` if no gateway runs.
pub(crate) fn ask(data_dir: &Path, question: &str) -> io::Result<Option<UnixStream>> {
    let Some(mut stream) = connect(data_dir)? else { return Ok(None) };
    stream.set_read_timeout(Some(CONTROL_TIMEOUT))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    Ok(Some(stream))
}

/// Returns the id of the process at the other end.
pub(crate) fn peer(stream: &UnixStream) -> Option<u32> {
    u32::try_from(socket_peercred(stream).ok()?.pid.as_raw_nonzero().get()).ok()
}

fn connect(data_dir: &Path) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(socket_path(data_dir)) {
        Ok(stream) => Ok(Some(stream)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(e) => Err(e),
    }
}
