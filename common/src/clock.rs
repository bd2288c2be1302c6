//! Wall clock, monotonic clock and sleep as one argument, so that a test owns time. The only file of the product that asks
//! the system what time it is.

use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::DateTime;
use tokio::sync::watch;

/// Instants whose year has four digits, Unix ms: up to the end of 9999, which is how certificates say that they have no end
/// (RFC 5280, 4.1.2.5), and a little more than other types of this calendar take.
pub const DATES_MS: RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// Date and time in UTC of an instant of [`DATES_MS`].
#[must_use]
pub fn utc(ms: i64) -> Option<DateTime> {
    let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    epoch.checked_add(jiff::SignedDuration::from_millis(ms)).ok().filter(|_| DATES_MS.contains(&ms))
}

/// A future that owns nothing of its clock.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The time, as a value that is passed in.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall clock, Unix ms. May jump.
    fn now_ms(&self) -> i64;
    /// Time since some fixed instant. Never jumps back.
    fn monotonic(&self) -> Duration;
    /// Time since the host was started, suspension included. Nobody can set it; a restart of the host begins it anew.
    fn since_boot(&self) -> Duration;
    /// Ends once `monotonic` has grown by `duration`.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// Shared handle to a clock.
pub type SharedClock = Arc<dyn Clock>;

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn shared() -> SharedClock {
        #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
        let origin = std::time::Instant::now();
        Arc::new(Self { origin })
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: Mutex<i64>,
    elapsed: watch::Sender<Duration>,
    suspended: Mutex<Duration>,
}

impl ManualClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub fn at(now_ms: i64) -> Arc<Self> {
        Arc::new(Self { wall_ms: Mutex::new(now_ms), elapsed: watch::channel(Duration::ZERO).0, suspended: Mutex::default() })
    }

    /// Moves both clocks on and wakes who slept that long.
    pub fn advance(&self, by: Duration) {
        self.step_wall_ms(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
        self.elapsed.send_modify(|elapsed| *elapsed += by);
    }

    /// Sets the wall clock forward or back, as NTP or an administrator would; nobody wakes.
    pub fn step_wall_ms(&self, by: i64) {
        *self.wall_ms.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// The host sleeps: the wall clock and the time since boot go on, nobody wakes.
    pub fn suspend(&self, by: Duration) {
        self.step_wall_ms(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
        *self.suspended.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// How many are asleep, or hold a sleep that ended but was not looked at.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.elapsed.receiver_count()
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        *self.wall_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn since_boot(&self) -> Duration {
        *self.elapsed.borrow() + *self.suspended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let mut elapsed = self.elapsed.subscribe();
        let until = *elapsed.borrow() + duration;
        Box::pin(async move {
            // An error means that the clock is gone, and then nobody waits for the sleeper either.
            if elapsed.wait_for(|now| *now >= until).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_date_of_a_certificate_has_its_name() {
        for (ms, name) in
            [(253_402_300_799_999, "9999-12-31T23:59:59.999"), (-631_152_000_000, "1950-01-01T00:00:00"), (-62_167_219_200_000, "0000-01-01T00:00:00")]
        {
            assert_eq!(utc(ms).map(|at| at.to_string()).as_deref(), Some(name));
        }
        assert_eq!([253_402_300_800_000, -62_167_219_200_001, i64::MAX, i64::MIN].map(utc), [None; 4]);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_time_has_passed_and_not_before() {
        let clock = ManualClock::at(1_000);
        let mut sleep = clock.sleep(Duration::from_secs(10));
        clock.advance(Duration::from_secs(9));
        assert!(futures_poll(&mut sleep).await.is_none());
        clock.step_wall_ms(3_600_000);
        assert!(futures_poll(&mut sleep).await.is_none(), "a step of the wall clock wakes nobody");
        clock.advance(Duration::from_secs(1));
        assert!(futures_poll(&mut sleep).await.is_some());
        assert_eq!(clock.now_ms(), 1_000 + 10_000 + 3_600_000);
    }

    /// Polls once.
    async fn futures_poll(sleep: &mut Sleep) -> Option<()> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match sleep.as_mut().poll(cx) {
                std::task::Poll::Ready(()) => Some(()),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
