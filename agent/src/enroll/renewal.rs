//! The wish to renew before it is time: by order of the aggregator, within a time over which agents spread themselves, or
//! at once because the certificate was refused. The uplink wishes, the renewer grants.

use std::time::Duration;

use tokio::sync::watch;

/// Shared by both.
#[derive(Debug, Clone)]
pub struct Renewal(watch::Sender<Option<Duration>>);

impl Default for Renewal {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Renewal {
    /// Within `within` from `now` (monotonic), at a place by `random`. An earlier wish stands.
    pub fn within(&self, within: Duration, now: Duration, random: u64) {
        self.at(now + within.mul_f64(random as f64 / u64::MAX as f64), false);
    }

    /// At once.
    pub fn at_once(&self, now: Duration) {
        self.at(now, true);
    }

    fn at(&self, due: Duration, sooner: bool) {
        self.0.send_if_modified(|wish| {
            let modified = wish.is_none_or(|before| sooner && due < before);
            if modified {
                *wish = Some(due);
            }
            modified
        });
    }

    /// It is done.
    pub(super) fn done(&self) {
        self.0.send_replace(None);
    }

    /// When it is due, monotonic.
    pub(super) fn due(&self) -> Option<Duration> {
        *self.0.borrow()
    }

    pub(super) fn wishes(&self) -> watch::Receiver<Option<Duration>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_is_repeated_does_not_put_the_renewal_off_and_a_refusal_makes_it_sooner() {
        let (renewal, second) = (Renewal::default(), Duration::from_secs);
        renewal.within(second(100), second(0), u64::MAX / 2);
        assert_eq!(renewal.due().map(|due| due.as_secs_f64().round()), Some(50.0));
        renewal.within(second(100), second(40), u64::MAX);
        renewal.within(second(100), second(40), 0);
        assert_eq!(renewal.due().map(|due| due.as_secs_f64().round()), Some(50.0));
        renewal.at_once(second(41));
        assert_eq!(renewal.due(), Some(second(41)));
        renewal.done();
        assert_eq!(renewal.due(), None);
    }
}
