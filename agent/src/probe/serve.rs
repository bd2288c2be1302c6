//! The helper's loop: kernel, timers and one agent at a time, on one thread. It knows no network and writes no file but its socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::process::{self, EXIT_PERMISSION};
use std::os::unix::net::{UnixDatagram, UnixListener as Bound};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

use super::helper::{Eyes, Follow, Helper, READ_USES, read};
use super::kernel::Kernel;
use super::marks::Marks;
use super::message::{Ask, LINE_MAX, Tell, VERSION};
use super::since_boot_ns;
use super::sys::readable;

/// How often processes that are new are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Where that was not done in one go, how long all else has its turn.
const LOOK_ON: Duration = Duration::from_millis(20);
/// Bytes that wait for an agent that does not read.
const UNREAD_MAX: usize = 16 << 20;

/// What is to be served, and to whom.
#[derive(Debug, Clone)]
pub struct Serving<'a> {
    /// Path of the socket.
    pub socket: &'a Path,
    /// User that the agent runs as, beside root and the helper's own.
    pub agent_uid: Option<u32>,
    /// Group that may open the socket.
    pub group: Option<u32>,
    /// Does as on a kernel that takes no programs.
    pub no_programs: bool,
}

/// What needs privileges that serving does not.
#[derive(Debug)]
pub struct Prepared {
    eyes: Eyes,
    listener: Bound,
}

/// Loads the programs, makes the socket, and gives away what is needed no more. To be called before there are other threads.
///
/// # Errors
/// How to exit; why was said.
pub fn prepare(serving: &Serving<'_>) -> Result<Prepared, ExitCode> {
    let eyes = eyes(serving.no_programs).map_err(|e| {
        tracing::error!("the kernel shows this process nothing: {e}; run it as its unit does (systemd/keyvigil-probe.service), or as root");
        ExitCode::from(EXIT_PERMISSION)
    })?;
    let listener = bind(serving).map_err(|e| {
        tracing::error!("the socket {} cannot be made: {e}", serving.socket.display());
        ExitCode::from(process::failure_code(&e))
    })?;
    if let Err(e) = super::privileges::reduce() {
        tracing::warn!(error = %e, "not all privileges that are not needed could be given away");
    }
    Ok(Prepared { eyes, listener })
}

/// Runs until it is asked to stop.
pub async fn run(serving: Serving<'_>, prepared: Prepared, clock: SharedClock, stop_with_stdin: bool) -> ExitCode {
    let Prepared { eyes, listener } = prepared;
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => {
            tracing::error!("the socket {} cannot be served: {e}", serving.socket.display());
            return ExitCode::FAILURE;
        }
    };
    let mut server = Server { helper: Helper::new(eyes, clock.now_ms().unsigned_abs()), client: None, own_uid: rustix::process::getuid().as_raw() };
    // Whose paths are the host's is known from here on.
    if let Err(e) = server.helper.leave_out(0) {
        tracing::warn!(error = %e, "who is to be left out cannot be told to the kernel");
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(socket = %serving.socket.display(), "watching");
    let done = tokio::select! {
        done = server.serve(&listener, &serving) => done,
        why = process::asked_to_stop(stop_with_stdin) => { tracing::info!("{why}: stopping"); Ok(()) }
    };
    let _ = std::fs::remove_file(serving.socket);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Programs in the kernel; where it takes none, marks on files.
fn eyes(no_programs: bool) -> Result<Eyes, String> {
    let loaded = if no_programs { Err("not asked to".to_owned()) } else { Kernel::load() };
    let why = match loaded {
        Ok(kernel) => match kernel.blind_to_opens() {
            None => return Ok(Eyes::Programs(Box::new(kernel))),
            Some(why) => why.to_owned(),
        },
        Err(why) => why,
    };
    match Marks::begin() {
        Ok(marks) => {
            tracing::warn!("the kernel takes no programs from this process, so opens are seen less well, and operations not at all: {why}");
            Ok(Eyes::Marks(Box::new(marks), why))
        }
        Err(e) => Err(format!("programs: {why}; fanotify: {e}")),
    }
}

/// Makes the socket anew where the helper that made it is gone.
fn bind(serving: &Serving<'_>) -> io::Result<Bound> {
    if is_served(serving.socket) {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another helper serves it, and the agent would lose that one"));
    }
    match std::fs::remove_file(serving.socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = Bound::bind(serving.socket)?;
    listener.set_nonblocking(true)?;
    let group = serving.group.map(rustix::fs::Gid::from_raw);
    rustix::fs::chown(serving.socket, None, group)?;
    std::fs::set_permissions(serving.socket, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Whether somebody listens there. A socket of another type is refused with that word, and whoever listens does not notice: a connection
/// would take the place of the agent's.
fn is_served(socket: &Path) -> bool {
    let refused = UnixDatagram::unbound().and_then(|probe| probe.connect(socket)).err().and_then(|e| e.raw_os_error());
    refused == Some(rustix::io::Errno::PROTOTYPE.raw_os_error())
}

/// The agent at the other end.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    pid: u32,
    /// What it said and is not a line yet.
    heard: Vec<u8>,
    /// What is still to be written.
    unread: Vec<u8>,
    /// It said hello.
    is_known: bool,
}

struct Server {
    helper: Helper,
    client: Option<Client>,
    own_uid: u32,
}

impl Server {
    async fn serve(&mut self, listener: &UnixListener, serving: &Serving<'_>) -> io::Result<()> {
        // A duplicate, as the runtime wants one of its own.
        let ring = readable(self.helper.readable().try_clone_to_owned()?)?;
        let (mut reading, mut looking) = (tokio::time::interval(READ_USES), tokio::time::interval(LOOK));
        loop {
            tokio::select! {
                ready = ring.readable() => {
                    ready?.clear_ready();
                    self.helper.take();
                }
                _ = reading.tick() => self.helper.read_uses(since_boot_ns()),
                _ = looking.tick() => {
                    let (tells, is_whole) = self.helper.look();
                    if !is_whole {
                        looking.reset_after(LOOK_ON);
                    }
                    if let Some(client) = self.client.as_mut().filter(|client| client.is_known) {
                        tells.iter().for_each(|tell| client.say(tell));
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.accept(stream, serving),
                    Err(e) => {
                        tracing::warn!(error = %e, "an agent cannot be let in");
                        tokio::time::sleep(READ_USES).await;
                    }
                },
                talked = talk(&mut self.client) => self.heard(talked),
            }
            self.pass_on();
        }
    }

    /// Lets an agent in where its user may: the last that comes is the one.
    fn accept(&mut self, stream: UnixStream, serving: &Serving<'_>) {
        let Ok(peer) = stream.peer_cred() else { return };
        let allowed = [Some(0), Some(self.own_uid), serving.agent_uid];
        if !allowed.contains(&Some(peer.uid())) {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "somebody who is not the agent wanted to listen; see --agent-user");
            return;
        }
        let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
        if let Err(e) = self.helper.leave_out(pid) {
            tracing::warn!(error = %e, "the agent's own reading of keys will be told as well");
        }
        self.client = Some(Client { stream, pid, heard: Vec::new(), unread: Vec::new(), is_known: false });
    }

    fn heard(&mut self, talked: Result<Vec<Vec<u8>>, String>) {
        let done = talked.and_then(|lines| lines.iter().try_for_each(|line| self.obey(&read(line)?)));
        if let Err(e) = done {
            tracing::info!(pid = self.client.as_ref().map_or(0, |client| client.pid), "the agent is gone: {e}");
            self.part();
        }
    }

    fn obey(&mut self, ask: &Ask) -> Result<(), String> {
        let client = self.client.as_mut().ok_or("nobody is there")?;
        match ask {
            Ask::Hello { version, .. } if *version != VERSION => Err(format!("it speaks version {version} and not {VERSION}: both must be of one package")),
            Ask::Hello { have, .. } => {
                client.is_known = true;
                self.helper.hello(*have).iter().for_each(|tell| client.say(tell));
                Ok(())
            }
            Ask::Have { seq } if client.is_known => {
                self.helper.had(*seq);
                Ok(())
            }
            Ask::Hash { wanted } if client.is_known => {
                self.helper.tell_hashes(*wanted);
                Ok(())
            }
            Ask::Follow { files, entries, names, paths } if client.is_known => self.helper.follow(&Follow { files, entries, names, paths }),
            Ask::Follow { .. } | Ask::Have { .. } | Ask::Hash { .. } => Err("it did not say hello".to_owned()),
        }
    }

    /// Nobody listens any more: whoever gets the agent's number next is told like anybody.
    fn part(&mut self) {
        self.client = None;
        if let Err(e) = self.helper.leave_out(0) {
            tracing::warn!(error = %e, "the next process of the agent's number will not be told");
        }
    }

    /// Gives the agent what is new.
    fn pass_on(&mut self) {
        let Some(client) = self.client.as_mut().filter(|client| client.is_known) else { return };
        self.helper.unsent().for_each(|tell| client.say(tell));
        if client.unread.len() > UNREAD_MAX {
            tracing::warn!(pid = client.pid, "the agent does not read; it gets what it missed when it comes again");
            self.part();
        }
    }
}

impl Client {
    fn say(&mut self, tell: &Tell) {
        if let Ok(mut line) = serde_json::to_vec(tell) {
            line.push(b'\n');
            self.unread.append(&mut line);
        }
    }
}

/// Reads and writes until whole lines have come. Never ends where nobody is there.
async fn talk(client: &mut Option<Client>) -> Result<Vec<Vec<u8>>, String> {
    let Some(client) = client else { return std::future::pending().await };
    let interest = if client.unread.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
    let ready = client.stream.ready(interest).await.map_err(|e| e.to_string())?;
    if ready.is_writable() && !client.unread.is_empty() {
        match client.stream.try_write(&client.unread) {
            Ok(written) => drop(client.unread.drain(..written)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    if !ready.is_readable() {
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    let mut room = [0; 16_384];
    match client.stream.try_read(&mut room) {
        Ok(0) => return Err("it closed the connection".to_owned()),
        Ok(read) => client.heard.extend_from_slice(&room[..read]),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
        Err(e) => return Err(e.to_string()),
    }
    while let Some(end) = client.heard.iter().position(|byte| *byte == b'\n') {
        lines.push(client.heard.drain(..=end).collect());
    }
    if client.heard.len() > LINE_MAX { Err("a line has no end".to_owned()) } else { Ok(lines) }
}
