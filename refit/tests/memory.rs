//! A fill of a 400 MB model stays under 100 MB of memory that is not a mapped file.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![cfg(target_os = "linux")]

mod common;

use common::engine;
use engine_format::{EngineFlags, Tensor};
use refit::{FillOptions, fill_file, open_engine, open_source};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Memory of this process that no file backs.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Rows of 1024 floats: one weight of 200 MB, as an embedding may be, and eight of 25 MB.
const ROWS: [(&str, usize); 9] = [
    ("embedding", 51200),
    ("w0", 6400),
    ("w1", 6400),
    ("w2", 6400),
    ("w3", 6400),
    ("w4", 6400),
    ("w5", 6400),
    ("w6", 6400),
    ("w7", 6400),
];

#[test]
fn a_fill_holds_less_than_a_hundred_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    {
        let zeros = ROWS
            .map(|(name, rows)| (name, Tensor::zeros(engine_format::DType::F32, &[rows, 1024])));
        let stripped = engine(EngineFlags::REFIT, &zeros).strip().unwrap();
        let bytes = stripped.serialize(engine_format::SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
        std::fs::write(at("stripped"), bytes).unwrap();
    }
    let mut end = 0;
    let entries = ROWS.map(|(name, rows)| {
        let start = end;
        end += rows * 1024 * 4;
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{rows},1024],\"data_offsets\":[{start},{end}]}}")
    });
    let header = format!("{{{}}}", entries.join(","));
    // A hole in the file: the checkpoint takes no room on the disk and reads as zeros.
    let mut checkpoint = File::create(at("w.safetensors")).unwrap();
    checkpoint.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    checkpoint.write_all(header.as_bytes()).unwrap();
    checkpoint.set_len((8 + header.len() + end) as u64).unwrap();
    assert!(end > 400_000_000);

    let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let measured = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let source = open_source(&at("w.safetensors")).unwrap();
        let hook = |_, _| {
            peak.fetch_max(anonymous_bytes(), Ordering::Relaxed);
        };
        let options = FillOptions::default();
        let written = fill_file(&at("stripped"), &*source, &at("filled"), options, Some(&hook));
        done.store(true, Ordering::Relaxed);
        written.unwrap().made
    });
    let peak = peak.into_inner();
    println!("peak {} kB", peak / 1024);
    assert!(peak < 100_000_000, "{peak} bytes");
    assert!(measured.length > 400_000_000);
    assert_eq!(open_engine(&at("filled")).unwrap().version(), measured.version);
}
