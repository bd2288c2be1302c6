//! A link that treats packets as bad networks do, between two network namespaces of its own (`tests/support/packets.py`): who is
//! to use it is started inside of the near one. The kernel's TCP is real, on both ends of it. Needs root, and a kernel with tun.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// What happens to packets in one direction: of a hundred so many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    /// Are lost.
    pub loss: u32,
    /// Come twice.
    pub twice: u32,
    /// Are overtaken.
    pub swap: u32,
    /// All come so much later, ms.
    pub late: u32,
}

/// The link; gone when dropped.
#[derive(Debug)]
pub struct Packets {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Command that runs another in the near namespace.
    pub inside: String,
    /// Where the target is reached from there.
    pub address: String,
}

impl Packets {
    /// A link on which packets have at most `mtu` bytes, to `target` (`host:port` on this host).
    ///
    /// # Panics
    /// Where the namespaces cannot be made.
    #[must_use]
    pub fn to(target: &str, mtu: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/packets.py");
        let (host, port) = target.rsplit_once(':').expect("host:port");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(mtu.to_string()).args([host, port]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("/usr/bin/python3: scripts/need test installs it");
        let commands = child.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let at = answer(&mut answers);
        let text = |name: &str| at[name].as_str().expect("text").to_owned();
        Self { inside: format!("nsenter --net={}", text("namespace")), address: text("address"), child, commands, answers }
    }

    /// From now on packets fare like this; what happened to them so far.
    ///
    /// # Panics
    /// Where the link is gone.
    pub fn turn(&mut self, there: Way, back: Way) -> Value {
        let way = |way: Way| json!({"loss": way.loss, "twice": way.twice, "swap": way.swap, "late": way.late});
        writeln!(self.commands, "{}", json!({"there": way(there), "back": way(back)})).expect("it runs");
        answer(&mut self.answers)
    }
}

fn answer(answers: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    answers.read_line(&mut line).expect("a line");
    assert!(!line.is_empty(), "this experiment makes network namespaces and tun devices: it needs root, ip(8) (scripts/need test) and /dev/net/tun");
    serde_json::from_str(&line).expect("JSON")
}

impl Drop for Packets {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
