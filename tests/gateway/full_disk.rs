//! A disk that is full to the last byte: revocations still take effect at once, and remain in force.

use std::{fs, path::Path, process::Command};

use crate::{
    canary::Canary,
    client::Request,
    disk::Disk,
    instance::{Instance, eventually},
};

const STRANGER: &str = "192.0.2.7";

/// Starts a gateway whose data folder is a small disk; `None` if this user cannot mount.
fn on_small_disk(canary: &Canary) -> Option<(Instance, Disk)> {
    if !Disk::can_be_mounted() {
        return None;
    }
    let mut disk = None;
    let instance = Instance::with(&canary.address.to_string(), |i| {
        let data = i.path("data");
        let made = i.path("made");
        fs::rename(&data, &made).unwrap();
        fs::create_dir(&data).unwrap();
        disk = Some(Disk::mount(&data, "24M"));
        copy(&made, &data);
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
    });
    Some((instance, disk.unwrap()))
}

fn copy(from: &Path, to: &Path) {
    let contents = format!("{}/.", from.display());
    assert!(Command::new("cp").args(["-a", &contents, to.to_str().unwrap()]).status().unwrap().success());
}

fn with(i: &Instance, key: &str) -> u16 {
    i.send(&Request::new("GET", "/api/downloads").key(key)).status
}

fn succeeds(i: &Instance, args: &[&str]) -> String {
    let output = i.output(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_key_is_revoked_on_a_full_disk_and_stays_so() {
    let canary = Canary::start();
    let Some((mut i, disk)) = on_small_disk(&canary) else { return };
    let create = || i.command(&["key", "create"]);
    let keys: Vec<_> = (0..2).map(|_| create()).collect();
    let [first, second] = [0, 1].map(|n| keys[n]["key"].as_str().unwrap().to_owned());
    let id = |n: usize| keys[n]["id"].as_str().unwrap();
    assert!(i.path("data/state.reserve").exists());

    disk.fill();
    assert!(!i.output(&["key", "create"]).status.success(), "nothing is granted on a full disk");
    assert_eq!(with(&i, &first), 200);
    assert_eq!(succeeds(&i, &["key", "revoke", id(0)]), "", "the reserve has room for it");
    assert_eq!(with(&i, &first), 401);
    assert!(!i.path("data/state.reserve").exists());
    disk.fill();
    i.kill();
    i.start_role("gateway");
    assert_eq!((with(&i, &first), with(&i, &second)), (401, 200), "even after a kill, on a disk that is still full");
    disk.empty();
    eventually("the reserve", || i.path("data/state.reserve").exists().then_some(()));

    let link = i.command(&["link", "create", "/api/stream/a.mp4"])["url"].as_str().unwrap().to_owned();
    let opens = || {
        let target = format!("/api/stream/a.mp4?{}", link.split_once('?').unwrap().1);
        i.send(&Request::new("GET", &target)).status
    };
    assert_eq!(opens(), 200);
    disk.fill();
    (0..2).for_each(|_| drop(succeeds(&i, &["link", "rotate"])));
    assert_eq!(opens(), 403, "its signing key is gone");
}

/// Uses up the reserve and the free space in the database.
fn fill_the_database(i: &Instance, disk: &Disk) {
    fs::remove_file(i.path("data/state.reserve")).unwrap();
    disk.fill();
    let mut users = 0;
    eventually("a database without room", || {
        disk.fill();
        users += 1;
        (!i.output(&["user", "add", &format!("user{users}")]).status.success()).then_some(())
    });
}

#[test]
fn revocations_beyond_the_reserve_are_in_force_at_once_and_stored_later() {
    let canary = Canary::start();
    let Some((mut i, disk)) = on_small_disk(&canary) else { return };
    let made = i.command(&["key", "create"]);
    let id = made["id"].as_str().unwrap();
    let key = made["key"].as_str().unwrap().to_owned();
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    let link = i.command(&["link", "create", "/api/stream/a.mp4"]);
    let opens = |i: &Instance| {
        let target = format!("/api/stream/a.mp4?{}", link["url"].as_str().unwrap().split_once('?').unwrap().1);
        i.send(&Request::new("GET", &target)).status
    };
    let banned = |i: &Instance| i.send(&Request::new("GET", "/").header("X-Forwarded-For", STRANGER)).status == 403;
    assert_eq!((with(&i, &key), with(&i, &ana), opens(&i), banned(&i)), (200, 200, 200, false));

    fill_the_database(&i, &disk);
    for taken_back in [
        &["key", "revoke", id][..],
        &["user", "remove", "ana"],
        &["link", "revoke", link["id"].as_str().unwrap()],
        &["ban", "add", STRANGER],
    ] {
        let warning = succeeds(&i, taken_back);
        assert!(warning.contains("stores it once there is space"), "{taken_back:?}: {warning:?}");
    }
    assert_eq!((with(&i, &key), with(&i, &ana), opens(&i), banned(&i)), (401, 401, 410, true), "at once");
    assert!(!i.output(&["key", "revoke", "unknown"]).status.success(), "there is no such key");
    i.start_successor();
    eventually("the successor", || i.stderr().contains("a successor has taken over").then_some(()));
    assert_eq!((with(&i, &key), with(&i, &ana), opens(&i), banned(&i)), (401, 401, 410, true), "in a successor too");

    disk.empty();
    eventually("the revocations to be stored", || i.stderr().contains("stored what was revoked").then_some(()));
    i.kill();
    i.start_role("gateway");
    assert_eq!((with(&i, &key), with(&i, &ana), opens(&i), banned(&i)), (401, 401, 410, true), "after a restart");
    assert_eq!(with(&i, i.key()), 200);
}

#[test]
fn a_ban_that_is_not_stored_can_be_removed_too() {
    let canary = Canary::start();
    let Some((mut i, disk)) = on_small_disk(&canary) else { return };
    let banned = |i: &Instance| i.send(&Request::new("GET", "/").header("X-Forwarded-For", STRANGER)).status == 403;
    fill_the_database(&i, &disk);
    succeeds(&i, &["ban", "add", STRANGER]);
    assert!(banned(&i));
    succeeds(&i, &["ban", "remove", STRANGER]);
    assert!(!banned(&i));
    assert!(!i.output(&["ban", "remove", STRANGER]).status.success(), "once");
    disk.empty();
    i.command(&["key", "create"]);
    i.kill();
    i.start_role("gateway");
    assert!(!banned(&i), "it is not stored later either");
}
