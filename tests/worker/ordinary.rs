//! A worker that does not run as root: it has the same sandbox and can download.

use serde_json::{Value, json};

use crate::{
    account::{AS_ACCOUNT, open_folder, yt_dlp_for_account},
    media,
    origin::Origin,
    process::{Setup, Worker},
    sandbox::told,
    stand_in::python_yt_dlp,
};

fn rights_of_a_child(wrapper: &'static [&'static str]) -> Value {
    let dir = open_folder();
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), include_str!("python/rights.py"));
    let worker = Worker::with(&Origin::start(), &Setup { yt_dlp, extra: readable.leak(), wrapper });
    told(&worker)
}

#[test]
fn a_child_of_any_account_has_no_capabilities() {
    let nothing = json!([0, 0, 0, 0, 1, 2]);
    assert_eq!(rights_of_a_child(&[]), nothing, "with the account that runs the tests");
    assert_eq!(rights_of_a_child(AS_ACCOUNT), nothing, "with an ordinary account");
}

#[test]
fn an_ordinary_user_downloads_in_a_whole_sandbox() {
    let origin = Origin::start();
    let dir = open_folder();
    let Some(yt_dlp) = yt_dlp_for_account(dir.path()) else { return };
    let worker = Worker::with(&origin, &Setup { yt_dlp, extra: "", wrapper: AS_ACCOUNT });
    let task = worker.completed("ana", &origin.url("sample.mp4"));
    let file = worker.get("ana", &format!("/api/download/{}/file", task["id"].as_str().unwrap()));
    assert_eq!(file.body, media::read("sample.mp4"));
    assert!(!worker.log().contains("weaker sandbox"), "{}", worker.log());
}
