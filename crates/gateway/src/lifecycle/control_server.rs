//! The control socket, as the running gateway serves it.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use sallyport_core::supervision::shutdown::stopped;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
};
use tracing::warn;

use super::{
    control::{CONTROL_TIMEOUT, HANDOVER, REFRESH, UNBAN, WITHDRAW, WITHDRAWN, socket_path},
    hot_restart::Handover,
};
use crate::state::{GatewayState, Refreshed};

/// The socket, open to the owner of the data folder only.
pub(crate) struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlServer {
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
pub(crate) async fn serve(
    server: ControlServer,
    state: Arc<GatewayState>,
    handover: Arc<Handover>,
    mut stop: watch::Receiver<bool>,
) {
    let ControlServer { listener, path } = server;
    let bound = inode(&path);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(tokio::time::timeout(CONTROL_TIMEOUT, answer(stream, Arc::clone(&state), Arc::clone(&handover))));
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

async fn answer(stream: UnixStream, state: Arc<GatewayState>, handover: Arc<Handover>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if line.trim() == HANDOVER {
        let stream = stream.into_inner().into_std()?;
        stream.set_nonblocking(false)?;
        // A successor takes a while to start, and must not hold up this task.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = handover.hand_over(stream) {
                warn!(%error, "handover failed; this gateway keeps serving");
            }
        });
        return Ok(());
    }
    let answer = match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
        (REFRESH, "") => refreshed(state.refresh().await),
        (WITHDRAWN, "") => serde_json::to_string(&state.withdrawn.list())?,
        (WITHDRAW, text) => match serde_json::from_str(text) {
            Ok(withdrawal) => refreshed(state.withdraw(withdrawal).await),
            Err(_) => refreshed(Refreshed::Failed),
        },
        (UNBAN, text) => match text.parse() {
            Ok(network) if state.forget_ban(network).await => "ok".to_owned(),
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
