//! What only the system can tell.

use std::time::Duration;

/// Processor time that this process has used, in all its threads.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec`.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "every system has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Memory of this process, in bytes, as the system counts it.
pub fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("W9 runs on Linux only");
    let pages = statm.split_whitespace().nth(1).and_then(|field| field.parse::<f64>().ok());
    pages.expect("the second field is the resident set") * 4096.0
}
