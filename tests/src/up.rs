//! `keyvigil up` as a user runs it: three real processes on free ports, in a directory of the test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use keyvigil_common::client::Client;
use serde_json::Value;

use crate::process::program;

/// A running `keyvigil up`.
#[derive(Debug)]
pub struct Up {
    child: Child,
    /// The first line it printed.
    pub at: Value,
}

impl Up {
    /// Starts it on `dir`; `env` configures its children.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(dir: &Path, env: &[(&str, &str)]) -> Self {
        Self::start_at(dir, "127.0.0.1:0", env)
    }

    /// Starts it on an address.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start_at(dir: &Path, listen: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program("keyvigil"));
        command.arg("up").arg("--dir").arg(dir).args(["--listen", listen, "--output", "json"]).envs(env.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let at = serde_json::from_str(&line).expect("one JSON object");
        Self { child, at }
    }

    /// Starts it where it cannot start; what it says.
    ///
    /// # Panics
    /// Where it cannot be run at all.
    #[must_use]
    pub fn try_start(dir: &Path) -> String {
        let mut command = Command::new(program("keyvigil"));
        command.arg("up").arg("--dir").arg(dir).args(["--listen", "127.0.0.1:0"]);
        let out = command.stdin(Stdio::null()).output().expect("it starts");
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    }

    /// A client with the admin token.
    ///
    /// # Panics
    /// Never in practice.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.text("url"), Some(self.text("admin_token"))).expect("a client")
    }

    /// A member of the first line.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.at[name].as_str().unwrap_or_default()
    }

    /// Ctrl-C; whether it ended cleanly.
    ///
    /// # Panics
    /// Where it cannot be signalled.
    #[must_use]
    pub fn interrupt(mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
