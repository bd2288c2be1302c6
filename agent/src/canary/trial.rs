//! The trials: at intervals a child, as the helper does not tell of the agent itself, opens the canary's key, and where there is an
//! `openssl` becomes that, without any privilege, which signs with it. The child waits until its number is known to the sensors.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use keyvigil_common::canary::CanaryPath;
use keyvigil_common::random;
use keyvigil_common::stop::Stop;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Canary, CanaryConfig, key};
use crate::probe::privileges;

/// Where `openssl` is looked for: nothing is taken from the environment.
const OPENSSL: [&str; 4] = ["/usr/bin/openssl", "/bin/openssl", "/usr/local/bin/openssl", "/usr/sbin/openssl"];
/// What a child may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// After which the helper has told what there is to tell: it reads operations each second.
const TOLD: Duration = Duration::from_secs(2);
/// Between two looks, at most.
const LOOK: Duration = Duration::from_secs(5);
const COMPLAINT_BYTES_MAX: u64 = 1_024;
/// The child could not open the key.
const UNOPENED: u8 = 3;

/// Who makes them.
#[derive(Debug)]
pub struct Trials {
    canary: Canary,
    program: PathBuf,
    dir: PathBuf,
}

impl Trials {
    /// Makes the key, where there is a program for the trials and a sensor to see them.
    pub(crate) fn new(canary: &Canary, config: &CanaryConfig) -> Option<Self> {
        let (program, dir) = (config.program.clone()?, canary.dir.clone()?);
        if canary.lock().watches.is_empty() {
            return None;
        }
        // What is in the way is told with the first trial.
        if let Err(e) = key::make(&dir) {
            tracing::warn!(dir = %dir.display(), error = %e, "the canary's key cannot be made");
        }
        Some(Self { canary: canary.clone(), program, dir })
    }

    /// Makes them until stopped.
    pub async fn run(self, stop: Stop) {
        let (clock, interval) = (self.canary.clock.clone(), self.canary.interval);
        // What was followed just now may not be in the kernel yet.
        let mut next = clock.monotonic() + interval.min(TOLD);
        loop {
            let pause = next.saturating_sub(clock.monotonic()).min(interval / 4).min(LOOK);
            if stop.or(clock.sleep(pause)).await.is_none() {
                return;
            }
            if clock.monotonic() >= next {
                next = clock.monotonic() + early(interval);
                if stop.or(self.once()).await.is_none() {
                    return;
                }
            }
            self.canary.look();
        }
    }

    async fn once(&self) {
        let openssl = OPENSSL.iter().map(Path::new).find(|path| path.is_file());
        if openssl.is_none() {
            self.set_gap(Some("there is no openssl here to sign with the canary's key".to_owned()));
        }
        let mut paths = self.canary.awaited();
        paths.retain(|path| *path != CanaryPath::Operations || openssl.is_some());
        if paths.is_empty() {
            return;
        }
        let openssl = openssl.filter(|_| paths.contains(&CanaryPath::Operations));
        if let Err(why) = self.try_it(openssl, &paths).await {
            tracing::warn!("the canary cannot be tried: {why}");
            let now = self.canary.clock.monotonic();
            for path in &paths {
                self.canary.with(*path, |watch| watch.failed(&why, now));
            }
            return;
        }
        self.canary.clock.sleep(TOLD).await;
        let pokes = self.canary.lock().pokes.clone();
        pokes.iter().for_each(crate::collect::Poke::poke);
    }

    fn set_gap(&self, gap: Option<String>) {
        let now = self.canary.clock.monotonic();
        self.canary.with(CanaryPath::Operations, |watch| watch.set_gap(gap, now));
    }

    async fn try_it(&self, openssl: Option<&Path>, paths: &[CanaryPath]) -> Result<(), String> {
        key::make(&self.dir).map_err(|e| format!("its key cannot be made in {}: {e}", self.dir.display()))?;
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("canary").arg(key::path(&self.dir)).args(openssl).env_clear().kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("{} cannot be started: {e}", self.program.display()))?;
        let pid = child.id().filter(|_| crate::probe::is_numbered_by_the_kernel()).unwrap_or_default();
        for path in paths {
            let now = self.canary.clock.monotonic();
            self.canary.with(*path, |watch| watch.tried(nonce(), pid, now));
        }
        let (mut go, said) = (child.stdin.take(), child.stderr.take());
        let done = async {
            if let Some(go) = &mut go {
                go.write_all(b"\n").await.map_err(|e| format!("its child does not listen: {e}"))?;
            }
            drop(go);
            let mut text = String::new();
            if let Some(said) = said {
                let _ = said.take(COMPLAINT_BYTES_MAX).read_to_string(&mut text).await;
            }
            let status = child.wait().await.map_err(|e| format!("its child cannot be waited for: {e}"))?;
            Ok::<_, String>((status, text))
        };
        let waited = tokio::time::timeout(PATIENCE, done).await;
        let (status, text) = waited.map_err(|_| format!("its child was not done after {} s", PATIENCE.as_secs()))??;
        match (status.success(), openssl) {
            (true, signed) => {
                if signed.is_some() {
                    self.set_gap(None);
                }
                Ok(())
            }
            // It opened the key, and openssl did not like it: that says nothing of the sensors.
            (false, Some(openssl)) if status.code() != Some(UNOPENED.into()) => {
                self.set_gap(Some(format!("{} cannot sign with the canary's key: {status}: {}", openssl.display(), text.trim())));
                Ok(())
            }
            (false, _) => Err(format!("its child failed: {status}: {}", text.trim())),
        }
    }
}

/// Up to a tenth before its time, so that hosts that were started together part.
fn early(interval: Duration) -> Duration {
    let share = u32::from(u8::from_le_bytes(random()));
    interval - interval / 10 * share / u32::from(u8::MAX)
}

/// Never 0, which is none.
fn nonce() -> u64 {
    u64::from_le_bytes(random()).max(1)
}

/// The child: waits for its word, opens the key, and becomes `openssl` where that is given. Ends where its parent does.
#[must_use]
pub fn child(key: &Path, openssl: Option<&Path>) -> ExitCode {
    let mut word = [0];
    if std::io::stdin().read_exact(&mut word).is_err() {
        return ExitCode::FAILURE;
    }
    if let Err(e) = std::fs::read(key).map(zeroize::Zeroizing::new) {
        tracing::error!("{}: {e}", key.display());
        return ExitCode::from(UNOPENED);
    }
    let (Some(openssl), Some((dir, name))) = (openssl, key.parent().zip(key.file_name())) else { return ExitCode::SUCCESS };
    let mut command = std::process::Command::new(openssl);
    // From within its directory, which is the agent's own: the way there may be open to the agent's privileges only.
    command.args(["dgst", "-sha256", "-out", "/dev/null", "-sign"]).arg(name);
    let ready = std::env::set_current_dir(dir).and_then(|()| privileges::renounce().map_err(std::io::Error::from));
    let error = ready.map_or_else(|e| e, |()| command.exec());
    tracing::error!("{}: {error}", openssl.display());
    ExitCode::FAILURE
}
