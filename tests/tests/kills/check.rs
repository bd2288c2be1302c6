//! Whether what a crash left is what was promised. Opens the image as a start does, with nothing in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use keyvigil_aggregator::store::{Progress, Settled, Store, StoreError};
use keyvigil_tests::random::Random;

use crate::work::{DAY_MS, SERIES, STREAMS, Sent, Witness, deliver, open, series, stream};

/// Points of each series, by stream and place.
type Content = Vec<Vec<(i64, u64)>>;

/// Checks the image in `dir`, against what was `sent` up to now and what the `witness` knew at the crash.
pub(crate) async fn check(dir: &Path, sent: &[Vec<Arc<Sent>>; STREAMS], witness: &Witness, mut random: Random) -> Result<(), String> {
    let now_ms = 1_763_769_600_000 + random.below(200) as i64 * 3_600_000;
    let store = open(dir, now_ms).map_err(|e| format!("the store does not open: {e:?}"))?;
    let cursors = cursors(&store).await?;
    for (at, (cursor, said)) in cursors.iter().zip(&witness.streams).enumerate() {
        if *cursor < said.acknowledged || *cursor > said.sent {
            return Err(format!("stream {at} is at {cursor}, {} were acknowledged and {} sent", said.acknowledged, said.sent));
        }
    }
    compare(&store, sent, &cursors, witness).await.map_err(|e| format!("after the start, at {cursors:?}: {e}"))?;
    let whole: Vec<usize> = witness.streams.iter().map(|said| said.sent).collect();
    redeliver(&store, sent, &cursors, &whole, &mut random).await?;
    if whole != cursors {
        compare(&store, sent, &whole, witness).await.map_err(|e| format!("after the rest was delivered: {e}"))?;
    }
    if random.once_in(5) {
        go_on(&store, &mut random).await.map_err(|e| format!("work after the start: {e:?}"))?;
        compare(&store, sent, &whole, witness).await.map_err(|e| format!("after flushing and merging: {e}"))?;
        if random.once_in(2) {
            drop(store);
            let store = open(dir, now_ms).map_err(|e| format!("the store does not open again: {e:?}"))?;
            compare(&store, sent, &whole, witness).await.map_err(|e| format!("after another start: {e}"))?;
        }
    }
    Ok(())
}

async fn cursors(store: &Store) -> Result<Vec<usize>, String> {
    let read = |tx: &keyvigil_aggregator::store::Tx<'_>| (0..STREAMS).map(|at| tx.standing(&stream(at)).map(|standing| standing.cursor as usize)).collect();
    store.write(read).await.map_err(|e| format!("the cursors: {e:?}"))
}

/// What was acknowledged is a repeat; what was not is taken, once.
async fn redeliver(store: &Store, sent: &[Vec<Arc<Sent>>; STREAMS], cursors: &[usize], whole: &[usize], random: &mut Random) -> Result<(), String> {
    for (at, (cursor, last)) in cursors.iter().zip(whole).enumerate() {
        // An agent does not know how much of what it sent last was taken.
        let first = (cursor + 1).saturating_sub(random.below(4)).max(1);
        if first > *last {
            continue;
        }
        let settled = deliver(store, at, first, sent[at][first - 1..*last].to_vec(), || ()).await.map_err(|e| format!("stream {at} from {first}: {e:?}"))?;
        let expected: Vec<Settled> = (first..=*last).map(|seq| if seq <= *cursor { Settled::Repeat } else { Settled::New }).collect();
        if settled != expected {
            return Err(format!("stream {at} from {first} to {last}, at {cursor}: {settled:?}"));
        }
    }
    Ok(())
}

async fn go_on(store: &Store, random: &mut Random) -> Result<(), StoreError> {
    if random.once_in(2) {
        store.compact(&Progress::silent()).await?;
    } else {
        store.flush().await?;
        store.merge(i64::MAX / 2, if random.once_in(2) { 0 } else { i64::MAX / 2 }).await?;
    }
    if random.once_in(20) {
        let verified = store.verify(&Progress::silent()).await?;
        if let Some(fault) = verified.first_faults.first() {
            return Err(StoreError::Refused(format!("{} faults, the first: {fault:?}", verified.faults)));
        }
    }
    Ok(())
}

/// Every series as the batches up to `upto` of each stream make it, to the bit; days that may be gone may be there.
async fn compare(store: &Store, sent: &[Vec<Arc<Sent>>; STREAMS], upto: &[usize], witness: &Witness) -> Result<(), String> {
    let places: Vec<(usize, usize)> = (0..STREAMS).flat_map(|at| (0..SERIES).map(move |series| (at, series))).collect();
    let found = content(store, &places).await?;
    let expected: Vec<Vec<BTreeMap<i64, u64>>> = sent.iter().zip(upto).map(|(sent, upto)| expected(&sent[..*upto])).collect();
    let gone = |at_ms: i64| (at_ms.div_euclid(DAY_MS) + 1) * DAY_MS <= witness.dropped_before_ms;
    for ((at, series), found) in places.into_iter().zip(found) {
        let stays: Vec<(i64, u64)> = expected[at][series].iter().filter(|point| !gone(*point.0)).map(|(at_ms, bits)| (*at_ms, *bits)).collect();
        let (old, kept): (Vec<_>, Vec<_>) = found.into_iter().partition(|point| gone(point.0));
        if kept != stays {
            let apart = kept.iter().zip(&stays).find(|(a, b)| a != b);
            return Err(format!("series {series} of stream {at}: {} points, {} expected, first apart {apart:x?}", kept.len(), stays.len()));
        }
        let told = || sent[at][..witness.streams[at].sent].iter().flat_map(|sent| sent.samples());
        if let Some(invented) = old.iter().find(|point| !told().any(|(place, at_ms, bits)| (place, at_ms, bits) == (series, point.0, point.1))) {
            return Err(format!("series {series} of stream {at}: {invented:x?} was never sent"));
        }
    }
    Ok(())
}

fn expected(sent: &[Arc<Sent>]) -> Vec<BTreeMap<i64, u64>> {
    let mut out = vec![BTreeMap::new(); SERIES];
    for (series, at_ms, bits) in sent.iter().flat_map(|sent| sent.samples()) {
        out[series].insert(at_ms, bits);
    }
    out
}

/// What the store has of each series; nothing of those that it does not know.
async fn content(store: &Store, places: &[(usize, usize)]) -> Result<Content, String> {
    let ids: Vec<_> = places.iter().map(|(at, place)| store.index().id(1, &series(*at, *place))).collect();
    let known: Vec<_> = ids.iter().copied().flatten().collect();
    let mut found = store.select(&known, i64::MIN, i64::MAX, usize::MAX).await.map_err(|e| format!("reading: {e:?}"))?.into_iter();
    let bits = |points: Vec<(i64, f64)>| points.into_iter().map(|point| (point.0, point.1.to_bits())).collect();
    Ok(ids.into_iter().map(|id| id.and_then(|_| found.next()).map(bits).unwrap_or_default()).collect())
}
