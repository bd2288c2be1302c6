//! The agent's end of the helper's socket: a thread that keeps it open, asks for what it missed, and hands on what comes. What is not
//! taken yet stays bounded: beyond that nothing more is read, and the helper keeps it.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::collect::Poke;
use crate::probe::message::{Ask, LINE_MAX, Opened, Sight, Tell, Used, VERSION, What};

/// What waits to be taken.
const WAITING_MAX: usize = 4_096;
/// Between tries to reach a helper.
const RETRY: Duration = Duration::from_secs(3);
/// How long a read waits before it is seen whether there is something to say.
const LISTEN: Duration = Duration::from_millis(250);
/// How long a sensor waits for the outcome of the first try.
const FIRST_TRY: Duration = Duration::from_secs(2);

/// Helper, number and message.
pub(crate) type Numbered<T> = (u64, u64, T);

/// Which messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Opens,
    Uses,
}

/// The messages of a lane that somebody listens to: the first and last number that are not known to be kept.
#[derive(Debug, Clone, Copy, Default)]
struct Waits(Option<(u64, u64)>);

/// What the sensors take, and what they say.
#[derive(Debug, Default)]
struct Shared {
    opens: VecDeque<Numbered<Opened>>,
    uses: VecDeque<Numbered<Used>>,
    lanes: [Option<Waits>; 2],
    sight: Option<Result<Vec<Sight>, String>>,
    lost: (u64, u64),
    helper: u64,
    /// Helper and number of its last message that was read here, or was kept by a former process.
    have: Option<(u64, u64)>,
    follow: Option<Arc<Ask>>,
    /// Whether it is wanted what programs consist of.
    hashes: bool,
    /// Whom to wake when how well is seen changes; and whom for each open.
    pokes: [Option<Poke>; 2],
    is_started: bool,
    /// Lanes whose sensor has begun anew: what comes is not theirs until the helper begins to repeat what is not known to be kept.
    anew: [bool; 2],
    /// How often a sensor has begun anew.
    begun: u64,
}

/// How the helper stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What is seen how well; or why there is no helper.
    pub(crate) sight: Result<Vec<Sight>, String>,
    /// Opens and operations that were lost since it began.
    pub(crate) lost: (u64, u64),
    /// Which helper it is.
    pub(crate) helper: u64,
}

impl Shared {
    /// Drops what waits to be taken in a lane.
    fn clear(&mut self, lane: Lane) {
        match lane {
            Lane::Opens => self.opens.clear(),
            Lane::Uses => self.uses.clear(),
        }
    }

    /// A message has come; whether it is to be taken by who listens to this lane.
    fn waits(&mut self, lane: Lane, seq: u64) -> bool {
        let Some(waits) = &mut self.lanes[lane as usize] else { return false };
        waits.wait(seq);
        !self.anew[lane as usize]
    }
}

impl Waits {
    /// One more has come, or comes again.
    fn wait(&mut self, seq: u64) {
        self.0 = Some(self.0.map_or((seq, seq), |(first, last)| (first.min(seq), last.max(seq))));
    }
}

/// The handle of the sensors.
#[derive(Debug, Clone)]
pub struct Link {
    socket: PathBuf,
    shared: Arc<Mutex<Shared>>,
    tried: Arc<Condvar>,
    /// Ends the thread when the last handle is gone.
    changed: Arc<Mutex<Option<SyncSender<()>>>>,
}

impl Link {
    /// To the helper at this socket; nothing happens before [`start`](Self::start).
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), shared: Arc::default(), tried: Arc::default(), changed: Arc::default() }
    }

    /// Keeps the connection from now on, for one that listens to these messages; pokes when how well is seen changes, and for each open
    /// who listens to those. One that listened before has failed: what it took and nobody is known to keep is asked for again.
    pub(crate) fn start(&self, poke: Poke, lane: Lane) {
        let mut shared = lock(&self.shared);
        shared.pokes[lane as usize] = Some(poke);
        if shared.lanes[lane as usize].is_some() {
            shared.anew[lane as usize] = true;
            shared.begun += 1;
            shared.clear(lane);
            drop(shared);
            self.wake();
            return;
        }
        shared.lanes[lane as usize] = Some(Waits::default());
        if std::mem::replace(&mut shared.is_started, true) {
            return;
        }
        let (changed, wake) = sync_channel(1);
        *lock(&self.changed) = Some(changed);
        let (socket, state, tried) = (self.socket.clone(), Arc::clone(&self.shared), Arc::clone(&self.tried));
        let thread = std::thread::Builder::new().name("probe-link".into()).stack_size(256 << 10);
        if let Err(e) = thread.spawn(move || keep(&socket, &state, &tried, &wake)) {
            shared.sight = Some(Err(format!("the thread that listens to it cannot be started: {e}")));
        }
    }

    /// What was stored up to which message of which helper, as remembered over a restart; it is asked for what came after.
    pub(crate) fn resume(&self, have: (u64, u64)) {
        let mut shared = lock(&self.shared);
        if shared.helper == 0 {
            // Of two sensors the one that has less; what the other has already it leaves out. Of a later helper one has nothing yet.
            shared.have = Some(match shared.have {
                None => have,
                Some((helper, seq)) if helper == have.0 => (helper, seq.min(have.1)),
                Some((helper, _)) => (helper.max(have.0), 0),
            });
        }
    }

    /// Whether messages of a lane are not known to be kept.
    pub(crate) fn is_waiting(&self, lane: Lane) -> bool {
        lock(&self.shared).lanes[lane as usize].is_some_and(|waits| waits.0.is_some())
    }

    /// What was made of a lane's messages up to this one lies on disk.
    pub(crate) fn kept(&self, lane: Lane, (helper, seq): (u64, u64)) {
        let mut shared = lock(&self.shared);
        if shared.helper == helper
            && let Some(waits) = &mut shared.lanes[lane as usize]
        {
            waits.0 = waits.0.filter(|(_, last)| *last > seq).map(|(first, last)| (first.max(seq + 1), last));
        }
    }

    /// These files are to be followed.
    pub(crate) fn follow(&self, ask: Ask) {
        let mut shared = lock(&self.shared);
        if shared.follow.as_deref() != Some(&ask) {
            shared.follow = Some(Arc::new(ask));
            drop(shared);
            self.wake();
        }
    }

    /// The thread has something to say.
    fn wake(&self) {
        if let Some(changed) = &*lock(&self.changed) {
            // One that is full will be seen to.
            let _ = changed.try_send(());
        }
    }

    /// Whether it is wanted what the programs consist of that open keys.
    pub(crate) fn ask_for_hashes(&self, wanted: bool) {
        if std::mem::replace(&mut lock(&self.shared).hashes, wanted) != wanted {
            self.wake();
        }
    }

    /// Takes all opens that came.
    pub(crate) fn take_opens(&self) -> VecDeque<Numbered<Opened>> {
        std::mem::take(&mut lock(&self.shared).opens)
    }

    /// Takes all operations that came.
    pub(crate) fn take_uses(&self) -> VecDeque<Numbered<Used>> {
        std::mem::take(&mut lock(&self.shared).uses)
    }

    /// How the helper stands. The first time it may take until it is known.
    pub(crate) fn standing(&self) -> Standing {
        let is_untried = |shared: &mut Shared| shared.is_started && shared.sight.is_none();
        let (shared, _) = self.tried.wait_timeout_while(lock(&self.shared), FIRST_TRY, is_untried).unwrap_or_else(PoisonError::into_inner);
        let sight = shared.sight.clone().unwrap_or_else(|| Err(format!("the helper at {} does not answer", self.socket.display())));
        Standing { sight, lost: shared.lost, helper: shared.helper }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects again and again, until nobody holds the handle.
fn keep(socket: &Path, shared: &Mutex<Shared>, tried: &Condvar, wake: &Receiver<()>) {
    loop {
        let ended = match UnixStream::connect(socket) {
            Ok(stream) => listen(stream, shared, tried, wake),
            Err(e) => Err(format!("there is no helper at {}: {e}", socket.display())),
        };
        let Err(why) = ended else { return };
        let mut state = lock(shared);
        let is_news = !matches!(&state.sight, Some(Err(_)));
        state.sight = Some(Err(why));
        let pokes = if is_news { state.pokes.clone() } else { [None, None] };
        drop(state);
        tried.notify_all();
        pokes.iter().flatten().for_each(Poke::poke);
        match wake.recv_timeout(RETRY) {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Listens until the connection ends, which is told as an error, or until nobody holds the handle.
fn listen(mut stream: UnixStream, shared: &Mutex<Shared>, tried: &Condvar, wake: &Receiver<()>) -> Result<(), String> {
    let fault = |e: io::Error| format!("the helper is gone: {e}");
    stream.set_read_timeout(Some(LISTEN)).map_err(fault)?;
    stream.set_write_timeout(Some(RETRY)).map_err(fault)?;
    let (mut said, mut confirmed, mut hashes): (Option<Arc<Ask>>, _, _) = (None, None, false);
    let (have, mut begun) = {
        let state = lock(shared);
        (state.resumed(), state.begun)
    };
    say(&mut stream, &Ask::Hello { version: VERSION, have }).map_err(fault)?;
    let mut hellos = 1_u32;
    let mut lines = BufReader::new(stream.try_clone().map_err(fault)?);
    let mut line = Vec::new();
    loop {
        let (follow, wanted, again) = {
            let state = lock(shared);
            (state.follow.clone(), state.hashes, (state.begun, state.resumed()))
        };
        if begun != again.0 {
            begun = again.0;
            hellos += 1;
            say(&mut stream, &Ask::Hello { version: VERSION, have: again.1 }).map_err(fault)?;
        }
        // Before files are followed: what is told of them then has it.
        if std::mem::replace(&mut hashes, wanted) != wanted {
            say(&mut stream, &Ask::Hash { wanted }).map_err(fault)?;
        }
        if let Some(ask) = follow.filter(|ask| said.as_ref() != Some(ask)) {
            say(&mut stream, &ask).map_err(fault)?;
            said = Some(ask);
        }
        let kept = kept(&lock(shared));
        if kept.is_some() && kept != confirmed {
            say(&mut stream, &Ask::Have { seq: kept.unwrap_or_default() }).map_err(fault)?;
            confirmed = kept;
        }
        if matches!(wake.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)) {
            return Ok(());
        }
        if is_full(shared) {
            std::thread::park_timeout(LISTEN);
            continue;
        }
        let room = (LINE_MAX - line.len()) as u64;
        match (&mut lines).take(room).read_until(b'\n', &mut line) {
            Ok(0) => return Err("the helper is gone: it closed the connection".to_owned()),
            Ok(_) if line.last() != Some(&b'\n') && line.len() < LINE_MAX => {}
            Ok(_) => {
                let tell = serde_json::from_slice(&line).map_err(|e| format!("the helper speaks another language: {e}; both must be of one package"))?;
                line.clear();
                hellos -= u32::from(matches!(tell, Tell { what: What::Hello { .. }, .. })).min(hellos);
                take(tell, shared, hellos == 0)?;
                tried.notify_all();
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(fault(e)),
        }
    }
}

fn say(stream: &mut UnixStream, ask: &Ask) -> io::Result<()> {
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn is_full(shared: &Mutex<Shared>) -> bool {
    let shared = lock(shared);
    shared.opens.len() >= WAITING_MAX || shared.uses.len() >= WAITING_MAX
}

impl Shared {
    /// From where the helper is asked to go on: after what is kept, or what was read.
    fn resumed(&self) -> Option<(u64, u64)> {
        let first = self.lanes.iter().zip(self.anew).filter(|(_, anew)| *anew).filter_map(|(waits, _)| (*waits)?.0).map(|(first, _)| first).min();
        self.have.map(|(helper, read)| (helper, first.filter(|_| helper == self.helper).map_or(read, |first| read.min(first - 1))))
    }
}

/// Up to which message all is kept; what nobody listens to need not be.
fn kept(shared: &Shared) -> Option<u64> {
    let (_, read) = shared.have.filter(|(helper, _)| *helper == shared.helper)?;
    let first = shared.lanes.iter().flatten().filter_map(|waits| waits.0).map(|(first, _)| first).min();
    Some(first.map_or(read, |first| first - 1))
}

/// Takes in a message. `is_answered`: the helper has answered the last greeting, and repeats what it was asked for from here on.
fn take(tell: Tell, shared: &Mutex<Shared>, is_answered: bool) -> Result<(), String> {
    let mut state = lock(shared);
    let seq = tell.seq;
    let (is_open, is_sight) = (matches!(tell.what, What::Opened(_)), matches!(tell.what, What::Sight(_)));
    match tell.what {
        What::Hello { version, .. } if version != VERSION => {
            return Err(format!("the helper speaks version {version} and not {VERSION}: both must be of one package"));
        }
        What::Hello { helper, .. } => {
            if std::mem::replace(&mut state.helper, helper) != helper {
                state.lanes.iter_mut().flatten().for_each(|waits| waits.0 = None);
                state.lost = (0, 0);
            }
            if is_answered {
                state.anew = [false, false];
            }
        }
        What::Opened(opened) => {
            if state.waits(Lane::Opens, seq) {
                let helper = state.helper;
                state.opens.push_back((helper, seq, opened));
            }
        }
        What::Used(used) => {
            if state.waits(Lane::Uses, seq) {
                let helper = state.helper;
                state.uses.push_back((helper, seq, used));
            }
        }
        What::Sight(sight) => state.sight = Some(Ok(sight)),
        What::Lost { opens, operations } => state.lost = (opens, operations),
    }
    if seq > 0 {
        state.have = Some((state.helper, seq));
    }
    let [of_opens, of_uses] = state.pokes.clone();
    drop(state);
    let pokes = of_opens.filter(|_| is_sight || is_open).into_iter().chain(of_uses.filter(|_| is_sight));
    pokes.for_each(|poke| poke.poke());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(seq: u64, what: What) -> Tell {
        Tell { seq, what }
    }

    fn read(link: &Link) -> Vec<u64> {
        link.take_opens().iter().map(|(_, seq, _)| *seq).collect()
    }

    #[test]
    fn who_begins_anew_gets_again_what_is_not_kept_and_in_order() {
        let link = Link::new("/nonexistent");
        let hear = |what: Tell, is_answered| take(what, &link.shared, is_answered).unwrap();
        let opened = |seq| tell(seq, What::Opened(Opened::default()));
        lock(&link.shared).lanes = [Some(Waits::default()); 2];
        hear(tell(0, What::Hello { version: VERSION, helper: 7 }), true);
        (1..=4).for_each(|seq| hear(opened(seq), true));
        hear(tell(5, What::Used(Used::default())), true);
        assert_eq!(read(&link), [1, 2, 3, 4]);
        link.kept(Lane::Opens, (7, 2));
        link.start(Poke::new(|| ()), Lane::Opens);
        assert_eq!(lock(&link.shared).resumed(), Some((7, 2)), "3 and 4 are in nobody's hands");
        hear(opened(6), false);
        assert_eq!(read(&link), [] as [u64; 0], "what was under way comes again, behind what came before it");
        hear(tell(0, What::Hello { version: VERSION, helper: 7 }), true);
        [3, 4, 6].into_iter().for_each(|seq| hear(opened(seq), true));
        assert_eq!((read(&link), kept(&lock(&link.shared))), (vec![3, 4, 6], Some(2)));
        link.kept(Lane::Opens, (7, 6));
        assert_eq!(kept(&lock(&link.shared)), Some(4), "the other lane's is not kept");
        link.kept(Lane::Uses, (7, 5));
        assert_eq!(kept(&lock(&link.shared)), Some(6));
    }
}
