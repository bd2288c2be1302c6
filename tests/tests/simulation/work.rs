//! What a crash has to know beside the disk: nothing, since only what a step was about to do is undone by it.

/// Nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Witness;
