//! A real nginx that serves certificates from a directory.

use std::fmt::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::process::peer;

/// A server with its workers.
#[derive(Debug)]
pub struct Nginx {
    master: Child,
    dir: PathBuf,
    /// Where it listens.
    pub port: u16,
}

impl Nginx {
    /// Serves each of `names`, the first also to those who ask for none, from `NAME.pem` and `NAME.key` below `keys`.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(dir: &Path, keys: &Path, names: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let mut sites = String::new();
        for name in names {
            let at = keys.join(name);
            let at = at.display();
            let _ = writeln!(
                sites,
                "server {{ listen 127.0.0.1:{port} ssl; server_name {name}.example.org; ssl_certificate {at}.pem; ssl_certificate_key {at}.key; return 204; }}"
            );
        }
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path tmp;\n")).concat();
        let config = format!(
            "daemon off;\nworker_processes 2;\npid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\nssl_protocols TLSv1.2 TLSv1.3;\n{temporary}{sites}}}\n"
        );
        std::fs::write(dir.join("nginx.conf"), config).expect("a file");
        let master = Self::command(dir).stdin(Stdio::null()).spawn().expect("nginx starts");
        let mut server = Self { master, dir: dir.to_owned(), port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.master.try_wait().expect("it can be asked").is_none(), "nginx has ended");
            std::thread::yield_now();
        }
        server
    }

    fn command(dir: &Path) -> Command {
        let mut command = Command::new(peer("usr/sbin/nginx"));
        command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
        command
    }

    /// Has it load its certificates again.
    ///
    /// # Panics
    /// Where it refuses.
    pub fn reload(&self) {
        let status = Self::command(&self.dir).args(["-s", "reload"]).status().expect("nginx runs");
        assert!(status.success(), "nginx does not reload");
    }

    /// The process that is in charge of the others.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.master.id()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The workers end with it, unless it is killed.
        let _ = Self::command(&self.dir).args(["-s", "stop"]).status();
        let _ = self.master.wait();
    }
}
