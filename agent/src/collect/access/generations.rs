//! Which keys a file held in which of its states: a process goes on with the key that it loaded, whatever lies under that path since, and
//! may have loaded what no scan has seen yet. Knows nothing of the disk. Used by `files`.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyvigil_common::key::KeyFacts;

/// States of one file, and of all, that are remembered.
const OF_FILE_MAX: usize = 64;
const ALL_MAX: usize = 32_768;
/// The half of a generation that tells contents.
const CONTENTS: u64 = 0xffff_ffff;

/// What a file held.
#[derive(Debug)]
struct State {
    keys: Vec<Arc<KeyFacts>>,
    /// When a scan saw it last.
    round: u64,
}

/// Of all files, by number and generation.
#[derive(Debug, Default)]
pub(super) struct Generations {
    states: BTreeMap<(u32, u64), State>,
    /// When keys of a file were seen to change, since boot.
    changed_ns: BTreeMap<u32, u64>,
    round: u64,
}

impl Generations {
    /// Takes what a scan read of a file.
    pub(super) fn learn(&mut self, number: u32, generation: u64, keys: &[Arc<KeyFacts>]) {
        if generation == 0 {
            return;
        }
        self.states.insert((number, generation), State { keys: keys.to_vec(), round: self.round });
        let of_file = self.states.range((number, 0)..=(number, u64::MAX));
        if of_file.clone().count() > OF_FILE_MAX
            && let Some(oldest) = of_file.min_by_key(|(_, state)| state.round).map(|(id, _)| *id)
        {
            self.states.remove(&oldest);
        }
    }

    /// Other keys lie in the file, seen now.
    pub(super) fn change(&mut self, number: u32, now_ns: u64) {
        self.changed_ns.insert(number, now_ns);
    }

    /// A scan is taken; what was not seen for longest goes, where there is too much.
    pub(super) fn end_round(&mut self) {
        self.round += 1;
        while self.changed_ns.len() > ALL_MAX {
            self.changed_ns.pop_first();
        }
        let more = self.states.len().saturating_sub(ALL_MAX);
        if more > 0 {
            let mut by_age: Vec<(u64, (u32, u64))> = self.states.iter().map(|(id, state)| (state.round, *id)).collect();
            by_age.sort_unstable();
            by_age.iter().take(more).for_each(|(_, id)| drop(self.states.remove(id)));
        }
    }

    /// What the file held in exactly this state.
    pub(super) fn exact(&self, number: u32, generation: u64) -> Option<&[Arc<KeyFacts>]> {
        self.states.get(&(number, generation)).map(|state| &state.keys[..])
    }

    /// What it held with these contents, as far as size and last write tell: only its rights or names were others.
    pub(super) fn of_contents(&self, number: u32, generation: u64) -> Vec<Arc<KeyFacts>> {
        let states = self.states.range((number, 0)..=(number, u64::MAX)).filter(|((_, known), _)| known & CONTENTS == generation & CONTENTS);
        let mut keys: Vec<Arc<KeyFacts>> = states.flat_map(|(_, state)| state.keys.iter().cloned()).collect();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        keys.dedup_by(|a, b| a.id == b.id);
        keys
    }

    /// Whether the keys of a file are the same since then.
    pub(super) fn is_unchanged_since(&self, number: u32, started_ns: u64) -> bool {
        self.changed_ns.get(&number).is_none_or(|changed| *changed < started_ns)
    }
}

#[cfg(test)]
mod tests {
    use keyvigil_common::key::KeyKind;

    use super::*;

    #[test]
    fn a_state_keeps_its_keys_when_the_file_changes_and_the_oldest_is_forgotten() {
        let mut all = Generations::default();
        let key = |id: &str| KeyFacts::bare(KeyKind::PrivateKey, id.into(), id.into(), "ec");
        let (old, new) = (vec![Arc::new(key("old"))], vec![Arc::new(key("new"))]);
        let state = |change: u64, contents: u64| change << 32 | contents;
        all.learn(1, state(1, 1), &old);
        all.end_round();
        all.learn(1, state(2, 2), &new);
        all.end_round();
        assert_eq!(all.exact(1, state(1, 1)), Some(&old[..]));
        assert_eq!(all.exact(2, state(1, 1)), None, "another file");
        assert_eq!((all.of_contents(1, state(9, 2)), all.of_contents(1, state(9, 3))), (new.clone(), Vec::new()));
        all.learn(1, state(3, 1), &new);
        assert_eq!(all.of_contents(1, state(9, 1)).len(), 2, "which of them is not known");
        for change in 10..10 + OF_FILE_MAX as u64 {
            all.learn(1, state(change, 2), &new);
            all.end_round();
        }
        assert_eq!(all.exact(1, state(1, 1)), None);
        assert_eq!(all.states.len(), OF_FILE_MAX);
        all.change(1, 50);
        assert_eq!([40, 60].map(|started| all.is_unchanged_since(1, started)), [false, true]);
    }
}
