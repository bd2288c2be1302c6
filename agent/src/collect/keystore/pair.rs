//! Which of the keys that lay in a file and of those that lie there now belong together: the same, or one in place of the
//! other. Pure. Called by the tracker.

use std::collections::{HashMap, HashSet};

use keyvigil_common::key::{KeyFacts, KeyKind};

/// Comparisons up to which each may look through two lists of names.
const COMPARED_BY_NAME_MAX: usize = 10_000;

/// How an old and a new object belong together; indices into the lists given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pairs {
    /// The same object.
    pub(super) same: Vec<(usize, usize)>,
    /// The new one took the old one's place.
    pub(super) replaced: Vec<(usize, usize)>,
    /// Old ones that are gone.
    pub(super) gone: Vec<usize>,
    /// New ones.
    pub(super) new: Vec<usize>,
}

/// Pairs the objects of one file before and now, each with its slot.
pub(super) fn pair(old: &[(u32, &KeyFacts)], new: &[(u32, &KeyFacts)]) -> Pairs {
    let slots: (Vec<u32>, Vec<u32>) = (old.iter().map(|o| o.0).collect(), new.iter().map(|n| n.0).collect());
    let (old, new): (Vec<&KeyFacts>, Vec<&KeyFacts>) = (old.iter().map(|o| o.1).collect(), new.iter().map(|n| n.1).collect());
    let (old, new) = (old.as_slice(), new.as_slice());
    let mut pairs = Pairs::default();
    let mut free_old: Vec<usize> = (0..old.len()).collect();
    let mut free_new: Vec<usize> = (0..new.len()).collect();
    let same = |a: &KeyFacts, b: &KeyFacts| a.id == b.id && a.kind == b.kind;
    // Of equal objects those that stayed where they were belong together.
    take(&mut free_old, &mut free_new, &mut pairs.same, |o, n| slots.0[o] == slots.1[n] && same(old[o], new[n]));
    take(&mut free_old, &mut free_new, &mut pairs.same, |o, n| same(old[o], new[n]));
    let (alone_before, alone_now) = (alone(old), alone(new));
    let few = free_old.len() * free_new.len() <= COMPARED_BY_NAME_MAX;
    let replaces = |o: usize, n: usize| {
        let (o, n) = (old[o], new[n]);
        o.kind == n.kind && (succeeds(o, n, few) || alone_before.contains(&o.kind) && alone_now.contains(&o.kind))
    };
    take(&mut free_old, &mut free_new, &mut pairs.replaced, replaces);
    // A chain: the one certificate of a server among those of its authorities.
    let leaf = |facts: &KeyFacts| facts.kind == KeyKind::Certificate && facts.is_ca != Some(true);
    let one_leaf = |list: &[&KeyFacts]| list.iter().filter(|facts| leaf(facts)).count() == 1;
    if one_leaf(old) && one_leaf(new) {
        take(&mut free_old, &mut free_new, &mut pairs.replaced, |o, n| leaf(old[o]) && leaf(new[n]));
    }
    (pairs.gone, pairs.new) = (free_old, free_new);
    pairs
}

/// Kinds of which there is exactly one.
fn alone(list: &[&KeyFacts]) -> HashSet<KeyKind> {
    let mut counts: HashMap<KeyKind, usize> = HashMap::new();
    list.iter().for_each(|facts| *counts.entry(facts.kind).or_default() += 1);
    counts.into_iter().filter(|(_, count)| *count == 1).map(|(kind, _)| kind).collect()
}

/// Moves each old one and the first new one that fits it from the free lists to `pairs`.
fn take(free_old: &mut Vec<usize>, free_new: &mut Vec<usize>, pairs: &mut Vec<(usize, usize)>, fits: impl Fn(usize, usize) -> bool) {
    free_old.retain(|&o| match free_new.iter().position(|&n| fits(o, n)) {
        Some(at) => {
            pairs.push((o, free_new.remove(at)));
            false
        }
        None => true,
    });
}

/// Whether two different objects of one kind speak of the same holder; the alternative names are looked at if asked for.
fn succeeds(old: &KeyFacts, new: &KeyFacts, by_names: bool) -> bool {
    match old.kind {
        KeyKind::Crl => old.issuer == new.issuer,
        KeyKind::Certificate | KeyKind::CertificateRequest => {
            let subject = old.subject.as_ref().is_some_and(|subject| !subject.is_empty());
            subject && old.subject == new.subject || by_names && old.sans.iter().any(|san| new.sans.contains(san))
        }
        _ => old.subject.is_some() && old.subject == new.subject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kind: KeyKind, id: &str, subject: &str) -> KeyFacts {
        let mut facts = KeyFacts::bare(kind, id.into(), id.into(), "ec");
        facts.subject = Some(subject.to_owned()).filter(|subject| !subject.is_empty());
        facts
    }

    fn pair_all(old: &[KeyFacts], new: &[KeyFacts]) -> Pairs {
        pair(&(0..).zip(old).collect::<Vec<_>>(), &(0..).zip(new).collect::<Vec<_>>())
    }

    #[test]
    fn a_sole_key_is_replaced_by_a_sole_key() {
        let pairs = pair_all(&[facts(KeyKind::PrivateKey, "a", "")], &[facts(KeyKind::PrivateKey, "b", "")]);
        assert_eq!(pairs, Pairs { replaced: vec![(0, 0)], ..Pairs::default() });
    }

    #[test]
    fn in_a_chain_the_certificate_with_the_same_subject_is_the_successor() {
        let ca = |id: &str| KeyFacts { is_ca: Some(true), ..facts(KeyKind::Certificate, id, "CN=ca") };
        let old = [facts(KeyKind::PrivateKey, "k1", ""), facts(KeyKind::Certificate, "c1", "CN=www"), ca("r")];
        let new = [facts(KeyKind::Certificate, "c2", "CN=www"), ca("r"), facts(KeyKind::PrivateKey, "k2", "")];
        let pairs = pair_all(&old, &new);
        assert_eq!((pairs.same, pairs.replaced), (vec![(2, 1)], vec![(0, 2), (1, 0)]));
        assert!(pairs.gone.is_empty() && pairs.new.is_empty());
    }

    #[test]
    fn in_a_bundle_one_stranger_does_not_replace_another() {
        let ca = |id: &str| KeyFacts { is_ca: Some(true), ..facts(KeyKind::Certificate, id, &format!("CN={id}")) };
        let pairs = pair_all(&[ca("a"), ca("b")], &[ca("b"), ca("c")]);
        assert_eq!(pairs, Pairs { same: vec![(1, 0)], gone: vec![0], new: vec![1], ..Pairs::default() });
    }

    #[test]
    fn the_same_key_twice_in_a_file_is_two_objects() {
        let key = || facts(KeyKind::SshPublicKey, "a", "me");
        let pairs = pair_all(&[key(), key()], &[key()]);
        assert_eq!((pairs.same, pairs.gone), (vec![(0, 0)], vec![1]));
    }
}
