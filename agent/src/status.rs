//! `keyvigil-agent status`: identity, certificate and buffer, read from the state directory beside a running agent.

use std::path::Path;
use std::process::ExitCode;

use keyvigil_common::process::{failure_code, say};
use keyvigil_common::telemetry::chain;

use crate::identity::Identity;
use crate::standing::Trouble;

/// Prints how the agent in `dir` stands.
#[must_use]
pub fn print(dir: &Path, now_ms: i64) -> ExitCode {
    match Identity::load(dir) {
        Ok(Some(identity)) => {
            say(&format!("aggregator   {}", identity.address));
            say(&format!("host         {} (agent {})", identity.host, identity.agent));
            let certificate = match identity.validity_ms() {
                Ok((_, end)) if end > now_ms => {
                    say(&format!("certificate  valid for {} more hours; renews itself while the agent runs", (end - now_ms) / 3_600_000))
                }
                Ok(_) => unhealthy("certificate  has ended: the agent renews it by itself while it runs and reaches the aggregator"),
                Err(e) => unhealthy(&format!("certificate  {e}")),
            };
            let refused = match Trouble::load(dir) {
                Some(trouble) => unhealthy(&format!("refused      {} for {} minutes: {}", trouble.code, (now_ms - trouble.since_ms) / 60_000, trouble.words)),
                None => ExitCode::SUCCESS,
            };
            let path = dir.join("buffer.db");
            let buffer = match crate::buffer::waiting(&path) {
                Err(_) if !path.exists() => unhealthy("buffer       none yet: start the agent (`systemctl start keyvigil-agent` or `keyvigil-agent run`)"),
                Ok((batches, items, bytes)) => say(&format!("buffer       {batches} batches with {items} items wait, {bytes} bytes")),
                Err(e) => unhealthy(&format!("buffer       cannot be read: {}", chain(&e))),
            };
            [certificate, refused, buffer].into_iter().find(|code| *code != ExitCode::SUCCESS).unwrap_or(ExitCode::SUCCESS)
        }
        Ok(None) => unhealthy(&format!("not joined   no identity in {}: run `keyvigil-agent join TOKEN`", dir.display())),
        Err(e) => {
            say(&format!("identity     {}", chain(&e)));
            ExitCode::from(failure_code(&e))
        }
    }
}

/// Says it, and that all is not well.
fn unhealthy(line: &str) -> ExitCode {
    say(line);
    ExitCode::from(3)
}
