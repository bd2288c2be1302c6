//! A listener that cannot accept, mostly for want of file descriptors: told once when it begins and once when it is over,
//! however often it is tried in between.

use std::io;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::telemetry::Number;

/// Without a failure for so long, it is over. While descriptors are few, each connection that ends lets one in: that is no end.
const CALM: Duration = Duration::from_secs(10);

/// What a listener knows of it.
#[derive(Debug)]
pub(super) struct Shortage {
    listener: &'static str,
    clock: SharedClock,
    /// All failures.
    failures: Number,
    now: Option<Ongoing>,
}

#[derive(Debug, Clone, Copy)]
struct Ongoing {
    since: Duration,
    last: Duration,
    failures: u64,
}

impl Shortage {
    pub(super) fn new(listener: &'static str, clock: SharedClock, failures: Number) -> Self {
        Self { listener, clock, failures, now: None }
    }

    /// It could not accept.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.failures.inc();
        let last = self.clock.monotonic();
        match &mut self.now {
            Some(ongoing) => (ongoing.last, ongoing.failures) = (last, ongoing.failures + 1),
            None => {
                self.now = Some(Ongoing { since: last, last, failures: 1 });
                tracing::error!(listener = self.listener, error = %error, "cannot accept connections; those that there are go on");
            }
        }
    }

    /// Ends once a shortage is over, which is told; never where there is none. May be dropped and called again.
    pub(super) async fn over(&mut self) {
        let Some(Ongoing { since, last, failures }) = self.now else { return std::future::pending().await };
        let now = self.clock.monotonic();
        self.clock.sleep((last + CALM).saturating_sub(now)).await;
        self.now = None;
        let seconds = (last - since).as_secs();
        tracing::warn!(listener = self.listener, failures, seconds, "accepts connections again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::clock::ManualClock;

    #[tokio::test]
    async fn a_shortage_is_one_however_often_it_fails_until_nothing_has_failed_for_a_while() {
        let clock = ManualClock::at(1_763_836_800_000);
        let mut shortage = Shortage::new("ingest", clock.clone(), Number::default());
        for _ in 0..300 {
            shortage.failed(&io::ErrorKind::OutOfMemory.into());
            clock.advance(Duration::from_millis(100));
        }
        let ongoing = shortage.now.unwrap();
        assert_eq!((ongoing.failures, shortage.failures.get(), ongoing.last - ongoing.since), (300, 300, Duration::from_millis(29_900)));
        // One is let in now and then: not over.
        clock.advance(CALM / 2);
        tokio::select! {
            biased;
            () = shortage.over() => panic!("it is not over"),
            () = std::future::ready(()) => {}
        }
        shortage.failed(&io::ErrorKind::OutOfMemory.into());
        clock.advance(CALM);
        shortage.over().await;
        assert!(shortage.now.is_none());
        tokio::select! {
            biased;
            () = shortage.over() => panic!("there is none"),
            () = std::future::ready(()) => {}
        }
    }
}
