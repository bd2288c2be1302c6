//! The agent's helper as a process of its own, on this machine's kernel.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use keyvigil_common::process::EXIT_PERMISSION;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::program;

/// A running helper; it ends when its standard input does.
#[derive(Debug)]
pub struct Probe {
    child: Child,
    stdin: Option<ChildStdin>,
    socket: PathBuf,
    args: Vec<String>,
}

impl Probe {
    /// Starts one; `None` where the kernel does not let this user.
    ///
    /// # Panics
    /// Where it ends for another reason.
    #[must_use]
    #[expect(clippy::print_stderr, reason = "a test says what it did not try")]
    pub fn start(socket: &Path, args: &[&str]) -> Option<Self> {
        let mut command = Command::new(program("keyvigil-agent"));
        command.args(["probe", "--stop-with-stdin", "--socket"]).arg(socket).args(args).stdin(Stdio::piped());
        let mut child = command.env("LOG_LEVEL", "warn").spawn().expect("the helper starts");
        let stdin = child.stdin.take();
        let mut probe = Self { child, stdin, socket: socket.to_owned(), args: args.iter().map(ToString::to_string).collect() };
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            if let Some(status) = probe.child.try_wait().expect("it can be asked") {
                assert_eq!(status.code(), Some(EXIT_PERMISSION.into()), "the helper has ended");
                eprintln!("not tried: the kernel does not let this user");
                return None;
            }
            std::thread::yield_now();
        }
        Some(probe)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("it is ours");
    }

    /// Kills it, and leaves its socket behind.
    ///
    /// # Panics
    /// Where it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
    }

    /// Kills it, and starts another.
    ///
    /// # Panics
    /// Where that one does not start.
    #[must_use]
    pub fn killed_and_started(mut self) -> Self {
        self.child.kill().expect("it can be killed");
        let _ = self.child.wait();
        let (socket, args) = (self.socket.clone(), self.args.clone());
        drop(self);
        Self::start(&socket, &args.iter().map(String::as_str).collect::<Vec<_>>()).expect("it started before")
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
