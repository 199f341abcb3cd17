//! Tests of the partial files: what is left after a kill, a reboot or a stop.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use super::{
    note::{BOOT_ID_OF_UNIT, Note, SyncedPrefix},
    recorder::LAST_READ,
    *,
};

fn job() -> (tempfile::TempDir, PartialFiles) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("work/tmp")).unwrap();
    let parts = PartialFiles::new(dir.path().join("work"), dir.path().join("synced.json"));
    (dir, parts)
}

fn begin(parts: &PartialFiles) -> SyncRecorder {
    parts.begin(&CancellationToken::new()).unwrap().unwrap()
}

fn left(dir: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(dir.join("work/kept")).unwrap().flatten();
    files.map(|e| (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap())).collect()
}

/// Simulates a reboot.
fn reboot(dir: &Path) {
    let path = dir.join("synced.json");
    let note = Note { boot: "another".into(), ..Note::read(&path) };
    note.write(&path).unwrap();
}

#[test]
fn after_a_reboot_only_noted_content_is_left() {
    let (dir, parts) = job();
    let tmp = dir.path().join("work/tmp");
    let mut recorder = begin(&parts);
    for name in ["a.part", "changed.part", "whole.mp4", "rewritten.mp4", "short.part", "a.part-Frag3"] {
        fs::write(tmp.join(name), "synced").unwrap();
    }
    recorder.check().unwrap();
    fs::write(tmp.join("a.part"), "synced, and more").unwrap();
    fs::write(tmp.join("changed.part"), "\0\0\0\0\0\0\0\0\0").unwrap();
    fs::write(tmp.join("rewritten.mp4"), "other!").unwrap();
    fs::write(tmp.join("short.part"), "syn").unwrap();
    fs::write(tmp.join("late.part"), "never noted").unwrap();
    fs::write(dir.path().join("work/out-of-place"), "").unwrap();
    reboot(dir.path());
    begin(&parts);
    let expected = [("a.part", "synced"), ("whole.mp4", "synced")].map(|(name, text)| (name.into(), text.into()));
    assert_eq!(left(dir.path()), expected.into());
}

#[test]
fn after_a_kill_everything_is_left_except_single_fragments() {
    let (dir, parts) = job();
    let tmp = dir.path().join("work/tmp");
    let mut recorder = begin(&parts);
    fs::write(tmp.join("a.part"), "one").unwrap();
    recorder.check().unwrap();
    fs::write(tmp.join("a.part"), "one two").unwrap();
    fs::write(tmp.join("a.part-Frag3"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", tmp.join("link.part")).unwrap();
    begin(&parts);
    assert_eq!(left(dir.path()), [("a.part".into(), "one two".into())].into());
}

#[test]
fn files_that_the_companion_has_not_picked_up_stay_noted() {
    let (dir, parts) = job();
    fs::write(dir.path().join("work/tmp/a.part"), "one").unwrap();
    begin(&parts).check().unwrap();
    let mut recorder = begin(&parts);
    assert_eq!(left(dir.path()).len(), 0, "it was never noted");
    fs::write(dir.path().join("work/tmp/a.part"), "one").unwrap();
    recorder.check().unwrap();
    // This run ends before yt-dlp has loaded the companion.
    let mut recorder = begin(&parts);
    recorder.end().unwrap();
    reboot(dir.path());
    begin(&parts);
    assert_eq!(left(dir.path()), [("a.part".into(), "one".into())].into());
}

#[test]
fn a_finished_file_survives_a_reboot_if_it_was_synced_at_the_end_of_its_run() {
    let (dir, parts) = job();
    let out = dir.path().join("work/out");
    let mut recorder = begin(&parts);
    for name in ["media.mp4", "longer.mp4"] {
        fs::write(out.join(name), "whole").unwrap();
    }
    recorder.end().unwrap();
    fs::write(out.join("longer.mp4"), "whole, and more").unwrap();
    fs::write(out.join("late.mp4"), "whole").unwrap();
    for _ in 0..2 {
        reboot(dir.path());
        begin(&parts);
    }
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["media.mp4"]);
}

#[test]
fn a_job_that_is_stopped_reads_no_further_and_loses_nothing() {
    let (dir, parts) = job();
    let path = dir.path().join("work/tmp/a.part");
    let mut recorder = begin(&parts);
    fs::write(&path, "one").unwrap();
    recorder.check().unwrap();
    let noted = recorder.last.files["a.part"];
    fs::write(&path, "one two").unwrap();
    recorder.deadline.stop.cancel();
    recorder.deadline.stopped = Instant::now().checked_sub(LAST_READ).unwrap().into();
    recorder.end().unwrap();
    assert_eq!(Note::read(&parts.note).files["a.part"], noted, "as noted before");
    reboot(dir.path());
    let stopped = CancellationToken::new();
    stopped.cancel();
    assert!(parts.begin(&stopped).unwrap().is_none());
    assert_eq!(left(dir.path()), [("a.part".into(), "one two".into())].into());
    begin(&parts);
    assert_eq!(left(dir.path()), [("a.part".into(), "one".into())].into());
}

#[test]
fn the_last_bytes_are_noted_even_though_the_job_is_stopped() {
    let (dir, parts) = job();
    let mut recorder = begin(&parts);
    fs::write(dir.path().join("work/tmp/a.part"), "one").unwrap();
    recorder.deadline.stop.cancel();
    recorder.end().unwrap();
    assert_eq!(recorder.last.files["a.part"].bytes, 3);
}

#[test]
fn the_unit_provides_the_boot_id_where_the_kernels_is_hidden() {
    let unit = include_str!("../../../../../systemd/sallyport-worker.service");
    assert!(unit.contains(&format!("\nEnvironment={BOOT_ID_OF_UNIT}=%b\n")) && unit.contains("\nProcSubset=pid\n"));
}

#[test]
fn a_missing_or_damaged_note_counts_as_empty() {
    for note in [None, Some("{\"boot\":\"x\",\"fil"), Some("\0\0\0\0")] {
        let (dir, parts) = job();
        if let Some(note) = note {
            fs::write(dir.path().join("synced.json"), note).unwrap();
        }
        fs::write(dir.path().join("work/tmp/a.part"), "one").unwrap();
        begin(&parts);
        assert_eq!(left(dir.path()), BTreeMap::new(), "{note:?}");
    }
}

#[test]
fn a_growing_file_is_read_once_and_a_new_one_from_its_beginning() {
    let (dir, parts) = job();
    let path = dir.path().join("work/tmp/a.part");
    let mut recorder = begin(&parts);
    for text in ["one", "one two", "one two three"] {
        // As yt-dlp does: the same file grows.
        fs::write(&path, text).unwrap();
        recorder.check().unwrap();
        let prefix = recorder.last.files["a.part"];
        assert_eq!(prefix, SyncedPrefix { bytes: text.len() as u64, crc32: crc32fast::hash(text.as_bytes()) });
    }
    fs::write(&path, "new").unwrap();
    recorder.check().unwrap();
    assert_eq!(recorder.last.files["a.part"], SyncedPrefix { bytes: 3, crc32: crc32fast::hash(b"new") });
}

#[test]
fn a_folder_that_a_child_has_replaced_by_a_link_is_not_followed() {
    let (dir, parts) = job();
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("mine.part"), "mine").unwrap();
    fs::remove_dir(dir.path().join("work/tmp")).unwrap();
    std::os::unix::fs::symlink(&other, dir.path().join("work/tmp")).unwrap();
    assert!(parts.begin(&CancellationToken::new()).is_err());
    assert!(other.join("mine.part").exists());
}
