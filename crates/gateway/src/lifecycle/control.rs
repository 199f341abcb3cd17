//! The control socket: over it, a command that has changed state tells the running gateway and waits until the change is in force.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::IpAddr,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::net::sockopt::socket_peercred;
use sallyport_core::supervision::shutdown::stopped;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader as AsyncBufReader},
    net::{UnixListener, UnixStream as AsyncUnixStream},
    sync::watch,
};
use tracing::warn;

use super::hot_restart::Estate;
use crate::{
    state::gateway_state::{GatewayState, Refreshed},
    store::Withdrawal,
};

const REFRESH: &str = "refresh";
/// Precedes a revocation that could not be stored.
const WITHDRAW: &str = "withdraw";
/// Precedes the address of a client whose ban is to end, if the ban is not stored.
const UNBAN: &str = "unban";
/// Asks for all revocations that are not stored.
const WITHDRAWN: &str = "withdrawn";
/// Asks for the listening sockets.
pub(crate) const HANDOVER: &str = "handover";
/// How long an exchange over the socket may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The result of telling the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It runs, and the change is in force.
    InForce,
    /// It runs, and the change is in force except for a part of the state that it could not read, for this reason.
    Partly(String),
    /// No gateway runs.
    NotRunning,
}

/// Returns the path of the socket.
#[must_use]
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Tells the gateway of this data folder that state has changed.
///
/// # Errors
/// Fails if a gateway runs but does not apply the change. It finds the change within seconds by polling.
pub fn tell(data_dir: &Path) -> io::Result<Told> {
    told(ask(data_dir, REFRESH)?)
}

/// Has the gateway of this data folder enforce a revocation now, and store it once the disk has room.
///
/// # Errors
/// Fails if a gateway runs but does not enforce it.
pub fn withdraw(data_dir: &Path, withdrawal: &Withdrawal) -> io::Result<Told> {
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

fn told(stream: Option<UnixStream>) -> io::Result<Told> {
    let Some(stream) = stream else { return Ok(Told::NotRunning) };
    let answer = read_answer(stream)?;
    match answer.trim().split_once(' ').unwrap_or((answer.trim(), "")) {
        ("ok", _) => Ok(Told::InForce),
        ("partly", why) => Ok(Told::Partly(why.to_owned())),
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
    stream.set_read_timeout(Some(PATIENCE))?;
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

/// The socket, open to the owner of the data folder only.
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens the socket, replacing a predecessor's. Returns `None` if that fails; then the gateway finds changes by polling.
    pub(crate) fn open(data_dir: &Path) -> Option<Self> {
        let path = socket_path(data_dir);
        match bind(&path) {
            Ok(listener) => Some(Self { listener, path }),
            Err(error) => {
                warn!(%error, path = %path.display(), "cannot open the control socket; changes made by commands take effect within a second or two");
                None
            }
        }
    }
}

/// Answers questions until `stop` becomes true.
pub(crate) async fn serve(door: Door, live: Arc<GatewayState>, estate: Arc<Estate>, mut stop: watch::Receiver<bool>) {
    let Door { listener, path } = door;
    let bound = inode(&path);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(tokio::time::timeout(PATIENCE, answer(stream, Arc::clone(&live), Arc::clone(&estate))));
                }
            }
            () = stopped(&mut stop) => break,
        }
    }
    // The file may belong to a successor by now.
    if inode(&path) == bound {
        let _ = std::fs::remove_file(&path);
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|about| about.ino())
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(stream: AsyncUnixStream, live: Arc<GatewayState>, estate: Arc<Estate>) -> io::Result<()> {
    let mut stream = AsyncBufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if line.trim() == HANDOVER {
        let stream = stream.into_inner().into_std()?;
        stream.set_nonblocking(false)?;
        // A successor takes a while to start, and must not hold up this task.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = estate.hand_over(stream) {
                warn!(%error, "handover failed; this gateway keeps serving");
            }
        });
        return Ok(());
    }
    let answer = match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
        (REFRESH, "") => refreshed(live.refresh().await),
        (WITHDRAWN, "") => serde_json::to_string(&live.withdrawn.list())?,
        (WITHDRAW, text) => match serde_json::from_str(text) {
            Ok(withdrawal) => refreshed(live.withdraw(withdrawal).await),
            Err(_) => refreshed(Refreshed::Failed),
        },
        (UNBAN, text) => match text.parse() {
            Ok(network) if live.forget_ban(network).await => "ok".to_owned(),
            Ok(_) | Err(_) => "none".to_owned(),
        },
        _ => refreshed(Refreshed::Failed),
    };
    stream.write_all(format!("{answer}\n").as_bytes()).await
}

fn refreshed(how: Refreshed) -> String {
    match how {
        Refreshed::Whole => "ok".to_owned(),
        Refreshed::Partly(why) => format!("partly {}", why.replace(['\n', '\r'], " ")),
        Refreshed::Failed => "failed".to_owned(),
    }
}
