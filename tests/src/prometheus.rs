//! A real Prometheus that scrapes an aggregator and writes to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use keyvigil_aggregator::run::Endpoints;

/// A Prometheus process; it ends with this value.
#[derive(Debug)]
pub struct Prometheus(Child);

impl Prometheus {
    /// The messages of remote write that the Prometheus of this machine can send.
    ///
    /// # Panics
    /// Where there is none: `make test` gets it.
    #[must_use]
    pub fn messages() -> &'static [&'static str] {
        let out = Command::new(program()).arg("--version").output().expect("prometheus runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let version = said.split_whitespace().nth(2).unwrap_or_default();
        let mut parts = version.split(['.', '+', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        let since_v2 = (parts.next(), parts.next()) >= (Some(2), Some(54));
        if since_v2 { &["prometheus.WriteRequest", "io.prometheus.write.v2.Request"] } else { &["prometheus.WriteRequest"] }
    }

    /// Starts one on `dir` that scrapes the metrics of `at` each second as `job` and writes them to its API as `message`.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(dir: &Path, at: &Endpoints, job: &str, message: &str) -> Self {
        let metrics = at.metrics_url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        // What knows one message only has no setting for it.
        let message = if Self::messages().len() > 1 { format!("protobuf_message: {message}") } else { String::new() };
        let config = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n- job_name: {job}\n  static_configs: [{{targets: [\"{metrics}\"]}}]\n\
             remote_write:\n- url: {}/prometheus/api/v1/write\n  authorization: {{credentials: {}}}\n  queue_config: {{batch_send_deadline: 200ms}}\n  {message}\n",
            at.url, at.admin_token
        );
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config).expect("the configuration is written");
        let mut command = Command::new(program());
        command.arg("--config.file").arg(&file).arg("--storage.tsdb.path").arg(dir.join("data"));
        command.args(["--web.listen-address", "127.0.0.1:0", "--log.level", "warn"]);
        Self(command.stdin(Stdio::null()).spawn().expect("prometheus starts"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> PathBuf {
    crate::process::peer("usr/bin/prometheus")
}
