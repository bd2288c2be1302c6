//! Makes a new file of what can be read of a damaged or suspect one, which is set aside. The new one is whole before it takes
//! the name, so that a kill at any point loses nothing that could be read.

use keyvigil_common::seal::MasterKey;
use keyvigil_common::sequence::{Range, Ranges};
use keyvigil_common::telemetry::chain;
use keyvigil_common::wire::Class;

use super::error::Trouble;
use super::file::File;
use super::import::Carried;
use super::salvage::Salvage;
use super::state::State;
use super::{BufferError, Place, disk};

/// Rows, and bytes of them, that are stored at once.
const CHUNK_ROWS: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;

/// Why a file is repaired.
#[derive(Debug, Clone)]
pub(super) struct Why {
    pub(super) words: String,
    /// It is not as it was written: more may be gone than its numbers tell. Else it is only not trusted, since the disk failed.
    pub(super) damaged: bool,
}

impl Why {
    pub(super) fn of(e: &BufferError) -> Self {
        Self { words: chain(e), damaged: e.trouble() == Trouble::Damaged }
    }
}

/// Repairs the file that `place` names. `known` is what was known of it while it was open; `salvage` is false where reading it
/// has failed before. Returns the new file.
pub(super) fn repair(place: &Place, master: &MasterKey, bytes: u64, why: &Why, known: Option<&State>, salvage: bool, now_ms: i64) -> Result<File, BufferError> {
    let fault = |e| BufferError::Io(format!("a new buffer cannot be put in place of {}", place.path.display()), e);
    disk::clean_up(&place.path).map_err(fault)?;
    let new = disk::unfinished(&place.path);
    let mut file = File::on_disk(place, &new, master, bytes, now_ms)?;
    let readable = salvage && std::fs::symlink_metadata(&place.path).is_ok_and(|stat| stat.is_file());
    let (saved, whole) = if readable { refill(&mut file, place, master, known, now_ms)? } else { (0, false) };
    file.write(now_ms, |work| {
        work.begin_epoch(work.state.numbers.next_id)?;
        if !whole || why.damaged {
            work.lose(Class::Alert, 0, &format!("the buffer was damaged ({}); {saved} batches were saved, how many were lost is not known", why.words))?;
        }
        work.save()
    })?;
    file.checkpoint()?;
    file.keep_log(false)?;
    drop(file);
    let aside = disk::set_aside(&place.path, now_ms)?;
    disk::put_in_place(&place.path).map_err(fault)?;
    tracing::error!(why = why.words, saved, whole, kept = %aside.display(), "the buffer cannot be trusted; it is set aside, and what could be read of it is in a new one");
    File::on_disk(place, &place.path, master, bytes, now_ms)
}

/// Takes all that can be read of the damaged file; how many batches, and whether it was read to its end.
fn refill(file: &mut File, place: &Place, master: &MasterKey, known: Option<&State>, now_ms: i64) -> Result<(u64, bool), BufferError> {
    let mut source = Salvage::open(place, &place.path, master);
    let last = known.map_or(u64::MAX >> 2, |known| known.numbers.next_id - 1);
    if let Some(known) = known {
        source.contents.spans = known.numbers.spans().to_vec();
        source.contents.last_id = Some(last);
        source.contents.settled = Some(known.settled.clone());
        source.contents.confirmed.clone_from(&known.confirmed);
    }
    file.write(now_ms, |work| work.take_contents(&source.contents, 0))?;
    let (mut chunk, mut bytes, mut saved) = (Vec::new(), 0, 0);
    source.rows(&place.path, last, &mut |row| {
        bytes += row.frame.len();
        chunk.push(row);
        saved += 1;
        if chunk.len() < CHUNK_ROWS && bytes < CHUNK_BYTES {
            return Ok(());
        }
        bytes = 0;
        store(file, &std::mem::take(&mut chunk), now_ms)
    })?;
    store(file, &chunk, now_ms)?;
    let settled = settled(&source.contents.settled, &source.found, source.contents.last_id);
    file.write(now_ms, |work| {
        for ids in settled.as_slice() {
            work.state.settled.insert(*ids);
        }
        let last = work.state.numbers.next_id - 1;
        for ids in Range::new(1, last).map(|all| work.state.settled.missing(all)).unwrap_or_default() {
            work.declare(ids, Class::Sample, "damaged on disk")?;
        }
        work.save()
    })?;
    file.reload(now_ms)?;
    Ok((saved, source.is_whole()))
}

fn store(file: &mut File, rows: &[Carried], now_ms: i64) -> Result<(), BufferError> {
    file.write(now_ms, |work| rows.iter().try_for_each(|row| work.take_row(row)))
}

/// What is settled: as the file says, or else all that lies before what was found. Should that be wrong, the aggregator asks.
fn settled(said: &Option<Ranges>, found: &Ranges, last_id: Option<u64>) -> Ranges {
    match (said, found.as_slice().first()) {
        (Some(said), _) => said.clone(),
        (None, Some(first)) => Range::new(1, first.first - 1).into_iter().collect(),
        (None, None) => last_id.and_then(|last| Range::new(1, last)).into_iter().collect(),
    }
}
