//! How a push travels: as a difference to the last one that was acknowledged, where the aggregator has said that it keeps that
//! one, else whole. Both lanes share it, since they take turns and never have two requests open. Kept in memory only: what
//! lies in the buffer is complete in itself.

use keyvigil_common::wire::{self, Base, Push, WireError};

/// What the aggregator is known to keep.
#[derive(Debug, Default)]
pub(super) struct Packer {
    base: Option<Base>,
    /// What it will keep once it has acknowledged what is on its way.
    sent: Option<Base>,
}

impl Packer {
    /// The request for a push.
    pub(super) fn pack(&mut self, push: &Push) -> Result<Vec<u8>, WireError> {
        let (body, next) = wire::encode_push_after(push, self.base.as_ref())?;
        self.sent = next;
        Ok(body)
    }

    /// An ack came, whose sender keeps the base `named`.
    pub(super) fn acked(&mut self, named: Option<u64>) {
        self.base = self.sent.take().filter(|base| Some(base.name) == named);
    }

    /// The next push goes whole: what the aggregator keeps is not known.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::wire::{Batch, Sender, encode_batch};

    fn push(seq: u64) -> Push {
        let sender = Sender {
            instance: [1; 16],
            machine: [2; 32],
            boot: [3; 16],
            boot_ms: 77,
            wall_ms: -5,
            trusts: [4; 32],
            blind: Some(0),
            canaries: keyvigil_common::canary::Canaries::default(),
        };
        let frames = vec![(seq, encode_batch(&Batch::default()).unwrap())];
        Push { epoch: [7; 16], sender: Some(sender), frames, ..Push::default() }
    }

    fn is_whole(packer: &mut Packer, seq: u64) -> bool {
        packer.pack(&push(seq)).unwrap().starts_with(b"KVP")
    }

    #[test]
    fn a_difference_is_told_only_to_what_the_aggregator_says_it_keeps() {
        let mut packer = Packer::default();
        let kept = |packer: &Packer| packer.sent.as_ref().map(|base| base.name);
        assert!(is_whole(&mut packer, 1));
        packer.acked(None);
        assert!(is_whole(&mut packer, 2), "an aggregator that cannot read differences");
        packer.acked(kept(&packer).map(|name| name ^ 1));
        assert!(is_whole(&mut packer, 3), "it keeps something else");
        packer.acked(kept(&packer));
        assert!(!is_whole(&mut packer, 4));
        assert!(!is_whole(&mut packer, 4), "refused, and sent again: it still keeps what it said");
        packer.acked(kept(&packer));
        assert!(!is_whole(&mut packer, 5));
        packer.forget();
        assert!(is_whole(&mut packer, 5));
    }
}
