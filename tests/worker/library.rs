//! Which accounts can read finished files: only the worker's own, or also the group of the media folder.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use crate::{
    account::{AS_ACCOUNT, open_folder},
    media,
    origin::Origin,
    process::{Setup, Worker},
    skips::skipped,
    stand_in::fake_yt_dlp,
};

/// Returns a group that nobody is in, or the current one if the tests cannot change the group of a file.
fn another_group(of: &Path) -> u32 {
    if rustix::process::geteuid().is_root() { 4_242 } else { group(of) }
}

fn group(path: &Path) -> u32 {
    fs::metadata(path).unwrap().gid()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn the_group_of_the_library_can_read_it_only_if_configured() {
    let origin = Origin::start();
    let extra = "media_dir = \"library\"\nlibrary_access = \"group\"";
    let mut worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let library = worker.dir.path().join("library");
    assert_eq!(mode(&library), 0o750);
    let group_of_library = another_group(&library);
    chown(&library, None, Some(group_of_library)).unwrap();
    let task = worker.completed("ana", &origin.url("sample.mp4"));
    let folder = library.join(task["id"].as_str().unwrap());
    assert_eq!((mode(&folder), group(&folder)), (0o750, group_of_library));
    for file in ["media.mp4", "thumbnail.jpg"].map(|name| folder.join(name)) {
        assert_eq!((mode(&file), group(&file)), (0o640, group_of_library), "{}", file.display());
    }
    assert_eq!(mode(&library.join(".jobs")), 0o700, "unfinished files stay private");

    assert!(worker.terminate());
    worker.reconfigure("library_access = \"group\"", "");
    worker.start_again();
    assert_eq!((mode(&folder), mode(&folder.join("media.mp4"))), (0o700, 0o600), "revoked at the next startup");

    assert!(worker.terminate());
    worker.reconfigure("media_dir = \"library\"", extra);
    worker.start_again();
    assert_eq!((mode(&folder), mode(&folder.join("media.mp4"))), (0o750, 0o640), "granted for existing files");
}

/// As in a systemd unit whose account is not in the group of the media server.
#[test]
fn an_account_outside_the_group_shares_by_the_setgid_bit_and_logs_if_it_cannot() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can give a folder to a group that it is not in");
    }
    let origin = Origin::start();
    let dir = open_folder();
    let sample = dir.path().join("sample.mp4");
    fs::write(&sample, media::read("sample.mp4")).unwrap();
    let script = format!(
        "case \"$*\" in *--skip-download*) exit 0;; esac\n\
         {{ cat {}; date +%s%N; }} >$HOME/out/media.mp4\necho \"A {{\\\"filepath\\\":\\\"$HOME/out/media.mp4\\\"}}\"",
        sample.display()
    );
    let yt_dlp = fake_yt_dlp(dir.path(), &script);
    let readable = dir.path().display();
    let extra = format!("readable = [\"{readable}\"]\nmedia_dir = \"library\"\nlibrary_access = \"group\"").leak();
    let worker = Worker::with(&origin, &Setup { yt_dlp, extra, wrapper: AS_ACCOUNT });
    let library = worker.dir.path().join("library");
    let finished = || {
        let task = worker.completed("ana", &origin.url("x"));
        library.join(task["id"].as_str().unwrap())
    };
    chown(&library, None, Some(4_242)).unwrap();
    assert_eq!(mode(&finished()), 0o700, "the file is kept all the same");
    assert!(worker.log().contains("cannot set the permissions of a finished file"), "{}", worker.log());

    for (path, mode) in [(&library, 0o2750), (&library.join(".jobs"), 0o2700)] {
        chown(path, None, Some(4_242)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let folder = finished();
    assert_eq!((mode(&folder), group(&folder)), (0o750, 4_242));
    assert_eq!((mode(&folder.join("media.mp4")), group(&folder.join("media.mp4"))), (0o640, 4_242));
}
