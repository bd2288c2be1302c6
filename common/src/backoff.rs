//! When to try again: exponential with full jitter, so that a fleet that lost its aggregator does not return as one.
//! Pure: the random number is an argument of [`Backoff::delay`]. Source: "Exponential Backoff And Jitter" (AWS, 2015).

use std::time::Duration;

/// Growing delays between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    /// Delays between zero and `base` at first, doubling up to `cap`.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, attempt: 0 }
    }

    /// The next delay: between zero and the current ceiling, by `random` in 0..=`u64::MAX`; never shorter than what the
    /// other side asked for.
    pub fn delay(&mut self, random: u64, asked: Option<Duration>) -> Duration {
        let ceiling = self.base.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1).min(31);
        let jittered = ceiling.mul_f64(random as f64 / u64::MAX as f64);
        match asked {
            // Everyone was told the same: spread over half of it beyond.
            Some(asked) => asked + asked.mul_f64(0.5 * (random as f64 / u64::MAX as f64)),
            None => jittered,
        }
    }

    /// It worked: begin again from the shortest delay.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Attempts that failed since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.attempt
    }
}

/// A random number for [`Backoff::delay`].
#[must_use]
pub fn random_u64() -> u64 {
    u64::from_le_bytes(crate::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_cap_and_begin_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let ceilings: Vec<u64> = (0..6).map(|_| backoff.delay(u64::MAX, None).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.delay(0, None), Duration::ZERO, "the jitter is full");
        backoff.reset();
        assert_eq!(backoff.delay(u64::MAX, None).as_secs(), 1);
    }

    #[test]
    fn what_the_server_asks_for_is_a_lower_bound() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let asked = Duration::from_secs(30);
        assert_eq!(backoff.delay(0, Some(asked)), asked);
        assert_eq!(backoff.delay(u64::MAX, Some(asked)), Duration::from_secs(45));
    }
}
