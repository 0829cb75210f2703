//! The limit: the bcrypt crate alone, in a loop on every core. Prints hashes a second.
//!
//! `bcrypt_alone COST SECONDS`

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let cost: u32 = arguments.next().unwrap_or(12);
    let time = Duration::from_secs(arguments.next().unwrap_or(10).into());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let hashes = AtomicU64::new(0);
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while started.elapsed() < time {
                    std::hint::black_box(bcrypt::bcrypt(
                        cost,
                        [7; 16],
                        b"0123456789012345678901234567890123456789012=\0",
                    ));
                    hashes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let hashes = f64::from(u32::try_from(hashes.into_inner()).unwrap_or(u32::MAX));
    println!("{:.2}", hashes / started.elapsed().as_secs_f64());
}
