//! A connection to a port of this host: every read has an end in time and in bytes, whatever the other side does. Called by the
//! conversations of the sensor.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::limits::SERVED_ANSWER_BYTES_MAX;

/// Bytes of a line of a protocol; ten times what any of them allows.
const LINE_BYTES_MAX: usize = 8 << 10;

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    clock: SharedClock,
    /// When it ends, whatever has been said (monotonic).
    end: Duration,
    /// Bytes that may be read still.
    left: usize,
    /// What was read and not taken.
    pub(super) inbox: Vec<u8>,
}

/// Why nothing more is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hush {
    /// Nothing came in time.
    Silence,
    /// The other side has closed.
    Closed,
    /// It says more than anyone listens to.
    Endless,
}

impl Hush {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Silence => "does not answer",
            Self::Closed => "closes the connection",
            Self::Endless => "answers without an end",
        }
    }
}

impl Wire {
    /// Connects, for no longer than `patience` in all.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn connect(to: SocketAddr, clock: &SharedClock, patience: Duration) -> io::Result<Self> {
        let end = clock.monotonic() + patience;
        let stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream, clock: clock.clone(), end, left: SERVED_ANSWER_BYTES_MAX, inbox: Vec::new() })
    }

    /// Says something. That the other side hears it shows when it answers.
    pub(super) fn say(&mut self, bytes: &[u8]) -> Result<(), Hush> {
        self.stream.write_all(bytes).map_err(|_| Hush::Closed)
    }

    /// Reads on, for at most `patience`.
    pub(super) fn hear(&mut self, patience: Duration) -> Result<(), Hush> {
        let wait = self.end.saturating_sub(self.clock.monotonic()).min(patience);
        if wait.is_zero() || self.stream.set_read_timeout(Some(wait)).is_err() {
            return Err(Hush::Silence);
        }
        if self.left == 0 {
            return Err(Hush::Endless);
        }
        let mut buffer = [0; 8 << 10];
        let most = buffer.len().min(self.left);
        loop {
            return match self.stream.read(&mut buffer[..most]) {
                Ok(0) => Err(Hush::Closed),
                Ok(count) => {
                    self.left -= count;
                    self.inbox.extend_from_slice(&buffer[..count]);
                    Ok(())
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Err(Hush::Silence),
                Err(_) => Err(Hush::Closed),
            };
        }
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> Result<String, Hush> {
        loop {
            if let Some(end) = self.inbox.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.inbox.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.inbox.len() > LINE_BYTES_MAX {
                return Err(Hush::Endless);
            }
            self.hear(Duration::MAX)?;
        }
    }

    /// All that was read and not taken.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    use keyvigil_common::clock::{ManualClock, SystemClock};

    /// A connection to a server that says `x` for ever.
    fn to_chatterbox(clock: &SharedClock, patience: Duration) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            while stream.write_all(&[b'x'; 1_000]).is_ok() {}
        });
        Wire::connect(to, clock, patience).unwrap()
    }

    #[test]
    fn nobody_is_listened_to_for_ever() {
        let mut wire = to_chatterbox(&SystemClock::shared(), Duration::from_secs(60));
        let hush = loop {
            if let Err(hush) = wire.hear(Duration::MAX) {
                break hush;
            }
        };
        assert_eq!((hush, wire.inbox.len()), (Hush::Endless, SERVED_ANSWER_BYTES_MAX));
        let clock = ManualClock::at(0);
        let mut wire = to_chatterbox(&(clock.clone() as SharedClock), Duration::from_secs(60));
        assert_eq!(wire.hear(Duration::MAX), Ok(()));
        clock.advance(Duration::from_secs(60));
        assert_eq!(wire.hear(Duration::MAX), Err(Hush::Silence), "however much it has to say");
    }
}
