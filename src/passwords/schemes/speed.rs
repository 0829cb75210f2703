//! How much work the hashes of other schemes are, in rounds of bcrypt, so that a refusal takes the same whatever it is
//! refused by.
//!
//! The constants were measured with the crates that verify them, in a release build on an AMD EPYC (Zen), by the
//! thread's CPU time, the least of nine runs that took turns: a round of bcrypt took 48.5 µs; one of PBKDF2 0.126 µs
//! with SHA-256 and 0.078 µs with SHA-1, and without the processor's instructions for them 0.301 and 0.131 µs; a KiB of
//! a pass of argon2 0.70 µs of 100 MiB and 0.43 µs of 19 MiB; a block of scrypt 0.29 µs of 16 MiB and 0.36 µs of 128
//! MiB. What no cache holds is slower by as much as that, on other processors too.
//!
//! The constants say how much a refusal takes in all. How much of it a verification was is timed, each time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(not(test))]
use crate::passwords::schemes::bcrypt_sha256::BcryptSha256;
#[cfg(not(test))]
use crate::system::clock::cpu_time_of_thread;

/// How long a round of bcrypt has taken lately on this machine, in picoseconds; 0 where none was timed.
static ROUND: AtomicU64 = AtomicU64::new(0);

/// Fewer rounds than this are too few to time them.
const TIMED: u64 = 1 << CALIBRATION;

/// The cost of the hash that is timed where no other was.
const CALIBRATION: u32 = 8;

/// Notes how long so many rounds of bcrypt took. The latest count most: other load makes a processor slower.
pub(super) fn note_rounds(rounds: u64, took: Duration) {
    if rounds >= TIMED {
        let latest = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).saturating_mul(1_000) / rounds;
        let before = ROUND.load(Ordering::Relaxed);
        let now = if before == 0 { latest } else { before - before / 4 + latest / 4 };
        ROUND.store(now, Ordering::Relaxed);
    }
}

/// How many rounds of bcrypt fit into this time of the processor.
#[cfg(not(test))]
pub(super) fn rounds_in(took: Duration) -> u64 {
    if ROUND.load(Ordering::Relaxed) == 0 {
        let begun = cpu_time_of_thread();
        BcryptSha256::burn_any(CALIBRATION);
        note_rounds(TIMED, cpu_time_of_thread().saturating_sub(begun));
    }
    let round = u128::from(ROUND.load(Ordering::Relaxed).max(1));
    u64::try_from(took.as_nanos() * 1_000 / round).unwrap_or(u64::MAX)
}

/// More memory than this, in bytes, is beyond what caches hold.
const CACHED: u64 = 32 << 20;

pub(super) fn pbkdf2_sha256(rounds: u32) -> u64 {
    u64::from(rounds).div_ceil(if has_sha() { 386 } else { 161 })
}

pub(super) fn pbkdf2_sha1(rounds: u32) -> u64 {
    u64::from(rounds).div_ceil(if has_sha() { 623 } else { 372 })
}

/// Of so many KiB, filled so many times.
pub(super) fn argon2(kib: u32, passes: u32) -> u64 {
    let filled = u64::from(kib) * u64::from(passes);
    filled.div_ceil(if u64::from(kib) * 1024 > CACHED { 70 } else { 112 })
}

/// Of so many blocks in so much memory.
pub(super) fn scrypt(blocks: u64, memory: u64) -> u64 {
    blocks.div_ceil(if memory > CACHED { 136 } else { 168 })
}

/// Whether the processor has instructions for SHA-1 and SHA-256. The crates use them where it does.
fn has_sha() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("sha");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}
