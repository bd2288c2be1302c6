//! Which number a row travels under. Rows have dense ids of their own; an epoch begins at an id and counts from there, so that
//! a fork, a copy or a salvage changes epochs and rewrites no row. An epoch may count on after another, where memory stood in for a
//! disk that was repaired. Pure.

use keyvigil_common::sequence::Range;

/// Where an epoch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// First id.
    pub(super) first_id: u64,
    /// What counts.
    pub(super) epoch: [u8; 16],
    /// Number of the first id.
    pub(super) first_seq: u64,
}

/// All epochs of a file, and the next id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbers {
    spans: Vec<Span>,
    newest: Span,
    pub(super) next_id: u64,
}

impl Numbers {
    /// Spans in the order of their ids; `None` if there are none or they are in no order.
    pub(super) fn new(spans: Vec<Span>, next_id: u64) -> Option<Self> {
        let ordered = spans.windows(2).all(|w| w[0].first_id < w[1].first_id) && spans.iter().all(|s| s.first_id > 0 && s.first_seq > 0);
        let newest = *spans.last()?;
        ordered.then_some(Self { spans, newest, next_id: next_id.max(newest.first_id) })
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    pub(super) fn newest(&self) -> Span {
        self.newest
    }

    /// Last number that the newest epoch gave; 0 for none.
    pub(super) fn last_seq(&self) -> u64 {
        self.newest.first_seq + (self.next_id - self.newest.first_id) - 1
    }

    /// The span that `id` lies in, and all ids of it.
    pub(super) fn at(&self, id: u64) -> (Span, Range) {
        let after = self.spans.partition_point(|s| s.first_id <= id).max(1);
        let span = self.spans.get(after - 1).copied().unwrap_or(self.newest);
        let last = self.spans.get(after).map_or(u64::MAX - 1, |next| next.first_id - 1);
        (span, Range { first: span.first_id, last })
    }

    /// The number that `id` travels under.
    pub(super) fn seq(&self, id: u64) -> u64 {
        let span = self.at(id).0;
        id.saturating_sub(span.first_id) + span.first_seq
    }

    /// Numbers of a range of ids that lies in one span.
    pub(super) fn seqs(&self, ids: Range) -> Range {
        let first = self.seq(ids.first);
        Range { first, last: first + (ids.last - ids.first) }
    }

    /// The ids that were given to these numbers of `epoch`, in order.
    pub(super) fn ids(&self, epoch: [u8; 16], seqs: Range) -> Vec<Range> {
        let given = |span: &Span| {
            let last_given = self.at(span.first_id).1.last.min(self.next_id - 1);
            let id = |seq: u64| seq.checked_sub(span.first_seq).and_then(|after| span.first_id.checked_add(after));
            let first = id(seqs.first.max(span.first_seq))?;
            let last = id(seqs.last).unwrap_or(u64::MAX).min(last_given);
            Range::new(first, last).filter(|_| seqs.last >= span.first_seq)
        };
        self.spans.iter().filter(|span| span.epoch == epoch).filter_map(given).collect()
    }

    /// Begins an epoch at `span.first_id`, or goes on with the one before; one that begins there too is replaced.
    pub(super) fn begin(&mut self, span: Span) {
        self.spans.retain(|s| s.first_id != span.first_id);
        let at = self.spans.partition_point(|s| s.first_id < span.first_id);
        let goes_on = |before: &Span| before.epoch == span.epoch && before.first_seq + (span.first_id - before.first_id) == span.first_seq;
        if !self.spans[..at].last().is_some_and(goes_on) {
            self.spans.insert(at, span);
        }
        self.newest = self.spans.last().copied().unwrap_or(span);
        self.next_id = self.next_id.max(span.first_id);
    }

    /// Forgets epochs all of whose ids lie below `floor`; the newest stays. Whether there were any.
    pub(super) fn forget_below(&mut self, floor: u64) -> bool {
        let keep = self.spans.windows(2).take_while(|w| w[1].first_id <= floor).count();
        self.spans.drain(..keep);
        keep > 0
    }

    /// The parts of `ids` that lie in one epoch each.
    pub(super) fn split(&self, ids: Range) -> Vec<Range> {
        let mut out = Vec::new();
        let mut first = ids.first;
        while first <= ids.last {
            let last = self.at(first).1.last.min(ids.last);
            out.push(Range { first, last });
            first = last + 1;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_numbers_lead_to_each_other_in_each_epoch_and_to_nothing_outside() {
        let mut numbers = Numbers::new(vec![Span { first_id: 1, epoch: [1; 16], first_seq: 1 }], 21).unwrap();
        numbers.begin(Span { first_id: 11, epoch: [2; 16], first_seq: 1 });
        numbers.begin(Span { first_id: 16, epoch: [3; 16], first_seq: 5 });
        assert_eq!([10, 11, 15, 16, 20].map(|id| numbers.seq(id)), [10, 1, 5, 5, 9]);
        assert_eq!(numbers.ids([2; 16], Range { first: 1, last: 99 }), [Range { first: 11, last: 15 }], "not past its end");
        assert_eq!(numbers.ids([3; 16], Range { first: 1, last: 99 }), [Range { first: 16, last: 20 }], "not past what was given");
        assert_eq!(numbers.ids([3; 16], Range { first: 1, last: 4 }), []);
        assert_eq!(numbers.ids([9; 16], Range { first: 1, last: 4 }), []);
        assert_eq!(numbers.split(Range { first: 9, last: 17 }), [(9, 10), (11, 15), (16, 17)].map(|(first, last)| Range { first, last }));
        assert_eq!(numbers.last_seq(), 9);
        assert!(numbers.forget_below(11) && !numbers.forget_below(15));
        assert_eq!(numbers.spans().len(), 2);
    }

    #[test]
    fn an_epoch_goes_on_where_it_was_left_and_after_another_too() {
        let mut numbers = Numbers::new(vec![Span { first_id: 1, epoch: [1; 16], first_seq: 1 }], 11).unwrap();
        numbers.begin(Span { first_id: 11, epoch: [2; 16], first_seq: 1 });
        let mut same = numbers.clone();
        same.begin(Span { first_id: 11, epoch: [1; 16], first_seq: 11 });
        assert_eq!((same.spans().len(), same.seq(11), same.newest().first_id), (1, 11, 1), "nothing lies between");
        numbers.begin(Span { first_id: 12, epoch: [1; 16], first_seq: 11 });
        numbers.next_id = 15;
        assert_eq!(numbers.ids([1; 16], Range { first: 9, last: 12 }), [(9, 10), (12, 13)].map(|(first, last)| Range { first, last }));
        assert_eq!((numbers.seq(11), numbers.last_seq()), (1, 13));
    }
}
