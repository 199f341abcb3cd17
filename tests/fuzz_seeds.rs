//! Runs the fuzz targets over their seeds and over changes of them that are the same in every run, so that a finding of the fuzzer is
//! reproduced without a fuzzer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::{fs, path::Path};

/// The number of changes of each seed.
const CHANGES: u32 = 2_000;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).map(|f| f.unwrap());
    let mut seeds: Vec<_> =
        files.map(|f| (f.file_name().into_string().unwrap(), fs::read(f.path()).unwrap())).collect();
    seeds.sort();
    seeds
}

/// Marsaglia's xorshift64: random enough for this, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides.max(1)
    }

    /// Makes one to four changes to `bytes`: changes a byte, removes, repeats or moves a part, or cuts off the end.
    fn change(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.roll(4) {
            let at = self.roll(bytes.len() + 1);
            let length = 1 + self.roll(16);
            let end = (at + length).min(bytes.len());
            match self.roll(7) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let part = bytes[at..end].to_vec();
                    let to = self.roll(bytes.len() + 1);
                    bytes.splice(to..to, part);
                }
                3 => bytes.insert(at, u8::try_from(self.roll(256)).unwrap()),
                4 => bytes.insert(at, b"\r\n\0 \t:;,=&%/.\"'[]{}0-~"[self.roll(22)]),
                5 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
                _ if at < bytes.len() => bytes[at] = u8::try_from(self.roll(256)).unwrap(),
                _ => {}
            }
        }
        bytes
    }
}

#[test]
fn every_target_holds_for_its_seeds_and_changes_of_them() {
    std::thread::scope(|scope| {
        for (name, target) in targets::ALL {
            scope.spawn(move || {
                let seeds = seeds(name);
                assert!(!seeds.is_empty(), "{name} has no seed");
                let mut dice = Dice(0x5a11_9047);
                for (file, bytes) in &seeds {
                    let run = |bytes: &[u8]| {
                        let outcome = std::panic::catch_unwind(|| target(bytes));
                        assert!(outcome.is_ok(), "{name}, from seed {file}: {:?}", String::from_utf8_lossy(bytes));
                    };
                    run(bytes);
                    (0..CHANGES).for_each(|_| run(&dice.change(bytes)));
                }
            });
        }
    });
}

#[test]
fn every_target_is_also_a_target_of_the_fuzzer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    for (name, _) in targets::ALL {
        let path = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("path = \"{path}\"")), "fuzz/Cargo.toml lacks {name}");
        let text = fs::read_to_string(root.join("fuzz").join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(text.contains(&format!("sallyport_fuzz::{name}::run")), "{name} runs another target");
    }
}
