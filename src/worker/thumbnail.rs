//! Makes a thumbnail from a finished file: one frame, or the cover of a sound file. Best effort; none is no error.

use std::{ffi::OsString, io::Read, path::Path, time::Duration};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    media::{JobFolder, open_regular},
    sandbox::Allowance,
    ytdlp::{Confined, DEMUXERS, Run, Tools},
};

const TIMEOUT: Duration = Duration::from_secs(30);
const ALLOWANCE: Allowance = Allowance { file: 4 << 20, cpu: 60 };

/// A second into the film, since many begin in black; for one that is shorter, its first picture.
const MOMENTS: [&str; 2] = ["1", "0"];

/// Puts a thumbnail of the accepted `file` beside it.
pub(crate) async fn make(tools: &Tools, job: &JobFolder, file: &Path, stop: &CancellationToken) {
    let Some(ffmpeg) = &tools.ffmpeg else { return };
    for moment in MOMENTS {
        let args = arguments(file, moment, &job.thumbnail());
        let (folder, reads) = (&job.work(), &[job.ready()]);
        let confined = Confined { tools, program: ffmpeg, args, folder, reads, allowance: ALLOWANCE, proxy: None };
        let Ok(mut run) = Run::start(confined, 4_096, stop, TIMEOUT) else { return };
        while run.next().await.is_some() {}
        run.end().await;
        let job = job.clone();
        if spawn_blocking(move || is_picture(&job.thumbnail()) && job.take_thumbnail().is_ok()).await.unwrap_or(false) {
            return;
        }
    }
}

fn arguments(file: &Path, moment: &str, picture: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["-nostdin", "-v", "quiet", "-y", "-threads", "1", "-format_whitelist", DEMUXERS]
        .into_iter()
        .chain(["-protocol_whitelist", "file,pipe", "-ss", moment, "-i"])
        .map(OsString::from)
        .collect();
    args.push(file.into());
    let scaled = ["-map", "0:v:0", "-frames:v", "1", "-vf", "scale='min(640,iw)':-2", "-f", "mjpeg"];
    args.extend(scaled.map(OsString::from));
    args.push(picture.into());
    args
}

/// True for a picture; a file that is none is taken away.
fn is_picture(path: &Path) -> bool {
    let mut head = [0; 3];
    let read = open_regular(path).and_then(|(mut file, _)| file.read_exact(&mut head));
    let whole = read.is_ok() && head == *b"\xff\xd8\xff";
    if !whole {
        drop(std::fs::remove_file(path));
    }
    whole
}
