//! How long one look may take: a slow disk must not hold up the news of what lies on a fast one. Called by the walk and the
//! reader.

use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::limits::KEYSTORE_SCAN_SECONDS_MAX;

/// The time of one look.
#[derive(Debug)]
pub(super) struct Budget {
    clock: SharedClock,
    begun: Duration,
}

impl Budget {
    /// Begins.
    pub(super) fn begin(clock: &SharedClock) -> Self {
        Self { clock: clock.clone(), begun: clock.monotonic() }
    }

    /// Since then.
    pub(super) fn spent(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.begun)
    }

    /// Whether it is used up.
    pub(super) fn is_over(&self) -> bool {
        self.spent() >= Duration::from_secs(KEYSTORE_SCAN_SECONDS_MAX)
    }

    /// Whether no more files are to be looked for, so that there is time to read those that were found.
    pub(super) fn is_half_over(&self) -> bool {
        self.spent() >= Duration::from_secs(KEYSTORE_SCAN_SECONDS_MAX) / 2
    }
}
