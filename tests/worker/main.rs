//! Tests of the worker over the wire, with the built program, real yt-dlp and ffmpeg, and media from a loopback server.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/disk.rs"]
#[expect(dead_code, reason = "the gateway's tests use more of it")]
mod disk;
#[path = "../support/media.rs"]
mod media;
#[path = "../support/origin.rs"]
mod origin;
#[path = "../support/places.rs"]
mod places;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../support/tools.rs"]
mod programs;
#[path = "../support/skips.rs"]
mod skips;

mod account;
mod client;
mod process;
mod stand_in;
mod town;

mod archives;
mod bodies;
mod budgets;
mod clock;
mod disks;
mod downloads;
mod egress;
mod egress_children;
mod event_sockets;
mod events;
mod files;
mod giving_way;
mod guard;
mod hostile;
mod jobs;
mod kinds;
mod leavers;
mod library;
mod metadata;
mod names;
mod offline;
mod ordinary;
mod playlist_ends;
mod playlists;
mod premieres;
mod qualities;
mod queue;
mod reconcile;
mod recovery;
mod resuming;
mod retention;
mod retries;
mod sandbox;
mod sharing;
mod sockets;
mod streams;
mod subtitles;
mod tools;
mod tracks;
mod units;
