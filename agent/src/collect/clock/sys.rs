//! The one system call that no safe wrapper among our dependencies offers: `adjtimex` (man 2 adjtimex), used only to read.

use std::io;

use super::Discipline;

/// Microseconds and nanoseconds of a second; the kernel gives the offset in either.
const MICROS: f64 = 1e6;
const NANOS: f64 = 1e9;
/// `freq` is parts per million with 16 bits after the point.
const FREQUENCY_SCALE: f64 = 65_536.0 * 1e6;

/// Asks the kernel about its clock.
///
/// # Errors
/// What the system says; a sandbox may forbid the call.
pub(super) fn adjtimex() -> io::Result<Discipline> {
    #[expect(unsafe_code, reason = "timex is plain integers, for which zero is valid; modes 0 makes the kernel fill it and change nothing")]
    let (timex, state) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut timex);
        (timex, state)
    };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(discipline(&timex, state))
}

fn discipline(timex: &libc::timex, state: i32) -> Discipline {
    let offset_unit = if timex.status & libc::STA_NANO == 0 { MICROS } else { NANOS };
    Discipline {
        synchronized: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        offset_seconds: timex.offset as f64 / offset_unit,
        estimated_error_seconds: timex.esterror as f64 / MICROS,
        max_error_seconds: timex.maxerror as f64 / MICROS,
        frequency_ratio: 1.0 + timex.freq as f64 / FREQUENCY_SCALE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_status() {
        #[expect(unsafe_code, reason = "timex is plain integers, for which zero is valid")]
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        (timex.offset, timex.maxerror, timex.esterror, timex.freq) = (-2_500, 500_000, 40, 65_536 * 20);
        let clock = discipline(&timex, libc::TIME_OK);
        assert_eq!((clock.offset_seconds, clock.max_error_seconds, clock.estimated_error_seconds), (-0.0025, 0.5, 4e-5));
        assert!((clock.frequency_ratio - 1.00002).abs() < 1e-12);
        timex.status = libc::STA_NANO | libc::STA_PLL;
        assert_eq!(discipline(&timex, libc::TIME_OK).offset_seconds, -2.5e-6);
        assert!(discipline(&timex, libc::TIME_OK).synchronized && !discipline(&timex, libc::TIME_ERROR).synchronized);
        timex.status |= libc::STA_UNSYNC;
        assert!(!discipline(&timex, libc::TIME_OK).synchronized);
    }

    #[test]
    fn the_running_kernel_answers_or_says_why_not() {
        match adjtimex() {
            Ok(clock) => assert!(clock.max_error_seconds >= 0.0 && (0.9..1.1).contains(&clock.frequency_ratio), "{clock:?}"),
            Err(e) => assert!(matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported), "{e}"),
        }
    }
}
