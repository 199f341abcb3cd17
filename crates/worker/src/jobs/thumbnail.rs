//! Makes a thumbnail of a finished file: one frame, or the cover of an audio file. Best effort: a missing thumbnail is not an error.

use std::{ffi::OsString, io::Read, path::Path, time::Duration};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{
    disk::Disks,
    media::{JobFolder, files::open_regular},
    ytdlp::{DEMUXERS, Limits, SandboxedRun, Tools},
};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest picture, in bytes.
const MAX_BYTES: u64 = 4 << 20;
const LIMITS: Limits = Limits { file: MAX_BYTES, cpu: Duration::from_mins(1), ..Limits::scratch(TIMEOUT) };

/// The positions to try, in seconds: one second in, because many videos begin in black, or the first frame of a shorter one.
const MOMENTS: [&str; 2] = ["1", "0"];

/// Puts a thumbnail of the accepted `file` next to it.
pub(super) async fn make(disks: &Disks, tools: &Tools, job: &JobFolder, file: &Path, stop: &CancellationToken) {
    let Some(ffmpeg) = &tools.ffmpeg else { return };
    for moment in MOMENTS {
        let place = job.clone();
        // A new folder, in which the child that fetched the video cannot have left anything.
        let Ok(Ok(folder)) = spawn_blocking(move || place.begin_thumbnail()).await else { return };
        let picture = folder.join("picture.jpg");
        let args = arguments(file, moment, &picture);
        let ready = job.ready();
        let run = SandboxedRun::new(tools, ffmpeg, args, &folder, LIMITS).reading(&ready);
        let Ok(mut run) = run.start(disks, stop) else { return };
        while run.next().await.is_some() {}
        run.end().await;
        let job = job.clone();
        let taken = spawn_blocking(move || is_picture(&picture) && job.take_thumbnail(&picture).is_ok());
        if taken.await.unwrap_or(false) {
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

/// Returns true for a JPEG within the size limit for thumbnails.
fn is_picture(path: &Path) -> bool {
    let mut head = [0; 3];
    let read = open_regular(path).and_then(|(mut file, about)| file.read_exact(&mut head).map(|()| about.len()));
    read.is_ok_and(|length| length <= MAX_BYTES) && head == *b"\xff\xd8\xff"
}
